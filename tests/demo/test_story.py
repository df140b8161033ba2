"""The headline counts what the scores say, and losing rows stay."""

from __future__ import annotations

from broadbase.demo.borrow import Borrowed
from broadbase.demo.story import headline, leads, picture, table
from broadbase.evidence.few_labels import FEATURES, OWN, PUBLISHED, RANDOM, FewLabels

FLOP = {RANDOM: 0.0, OWN: 1e13, PUBLISHED: 6e19}


def row(task: str, labels: int, published: float, features: float) -> FewLabels:
    """Scores of three splits that differ a little."""

    def around(mean: float) -> tuple[float, ...]:
        return (mean - 0.01, mean, mean + 0.01)

    own = {"probe": around(0.2), "centroids": around(0.3)}
    scores = {
        PUBLISHED: {"probe": around(0.1), "centroids": around(published)},
        OWN: own,
        RANDOM: {"probe": around(0.1), "centroids": around(0.15)},
        FEATURES: {"words": (features,) * 3},
    }
    if not labels:
        scores = {m: {"names": around(published)} for m in (PUBLISHED, OWN, RANDOM)}
    return FewLabels(task, labels, scores)


TEXT = [
    row("genre", 0, 0.5, 0.0),
    row("genre", 5, 0.8, 0.6),
    row("genre", 20, 0.9, 0.7),
    row("review", 0, 0.9, 0.0),
    row("review", 5, 0.4, 0.6),
    row("review", 20, 0.9, 0.6),
    row("package", 5, 0.7, 0.7),
    row("package", 20, 0.7, 0.9),
]
BORROWED = Borrowed(TEXT, [], FLOP)


def test_the_headline_counts_tasks_whose_interval_is_above_0() -> None:
    first, second = headline(BORROWED)
    assert "on 1 of 3 text tasks: mean accuracy 0.63 against 0.63" in first
    assert "in minutes has 0.30, and random init 0.15." in first
    assert "20 labels of each class on 1 of 2 tasks." in second  # 0.5 < 0.7, and 0.9 > 0.6


def test_rows_that_are_lost_stay_and_what_was_seen_is_marked() -> None:
    rows = leads(BORROWED, (5, 0))
    assert [lead.verdict for lead in rows if lead.published.method == "centroids"] == [
        "better",
        "worse",
        "undecided",
    ]
    assert {lead.task for lead in rows} == {"kind of document", "film review", "Python package*"}
    names = [lead for lead in rows if lead.published.method == "names"]
    assert [round(lead.gap.mean, 2) for lead in names] == [-0.2, 0.3]
    cells, columns, _ = table(BORROWED)
    assert all(set(columns) >= set(each) for each in cells)
    assert len(cells) == len(rows)


def test_the_picture_has_a_panel_for_each_task() -> None:
    text = picture(BORROWED)
    assert all(title in text for title in ("kind of document", "film review", "Python package*"))
    assert "3 text tasks" in text
