"""Charts: recall between modalities as squares."""

from __future__ import annotations

from itertools import permutations
from xml.etree import ElementTree

from broadbase.evidence.comparison import Comparison, Metric
from broadbase.evidence.interval import Interval
from broadbase.report.charts import matrix, recall_matrix


def recall(subject: str, k: int, score: float) -> Comparison:
    gap = Interval(score - 0.1, 0.0, 1.0)
    return Comparison(subject, Metric(f"recall@{k}", "higher"), "chance", 9, score, 0.1, gap)


def test_a_matrix_has_every_cell() -> None:
    cells = {("a", "<b>"): (0.5, "0.50", "x", True), ("<b>", "a"): (2.0, "2", "y", False)}
    root = ElementTree.fromstring(matrix(("a", "<b>"), cells))
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("<b>") == 2
    assert {"0.50", "x", "2", "y"} <= set(words)
    shades = [e.get("fill-opacity") for e in root.iter() if e.get("fill-opacity")]
    assert shades == ["0.30", "0.60"]


def test_recall_is_drawn_of_three_modalities_or_more() -> None:
    """A pair that was never trained is framed; two modalities are no matrix."""
    pairs = {f"{a} > {b}": {a, b} for a, b in permutations(("image", "text", "audio"), 2)}
    rows = [
        recall(name + ", never paired" * (pair == {"image", "audio"}), k, 0.25 * k / 10)
        for name, pair in pairs.items()
        for k in (1, 10)
    ]
    root = ElementTree.fromstring(recall_matrix(rows) or "")
    assert len([e for e in root.iter() if "stroke" in e.attrib]) == 2
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("0.25") == 6
    assert words.count("0.03 first") == words.count("0.03 first") == 6
    assert recall_matrix([row for row in rows if "audio" not in row.subject]) is None
