"""The one record: which direction is better, what is paired, and JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broadbase.core.errors import DataError
from broadbase.evidence.comparison import Comparison, Metric, compare
from broadbase.evidence.interval import Interval

ACCURACY, LOSS = Metric("accuracy", "higher"), Metric("bits per byte", "lower")
ROW = Comparison("text", ACCURACY, "unigram", 100, 0.8, 0.5, Interval(0.3, 0.2, 0.4))


@pytest.mark.parametrize(
    ("metric", "gap", "verdict", "advantage"),
    [
        (ACCURACY, Interval(0.3, 0.2, 0.4), "better", 0.3),
        (LOSS, Interval(0.3, 0.2, 0.4), "worse", -0.3),
        (ACCURACY, Interval(-0.3, -0.4, -0.2), "worse", -0.3),
        (LOSS, Interval(-0.3, -0.4, -0.2), "better", 0.3),
        (LOSS, Interval(-0.3, -0.7, 0.1), "undecided", 0.3),
        (ACCURACY, Interval(0.3), "undecided", 0.3),
    ],
)
def test_the_metric_says_who_is_ahead(
    metric: Metric, gap: Interval, verdict: str, advantage: float
) -> None:
    row = replace(ROW, metric=metric, gap=gap)
    assert (row.verdict, row.advantage) == (verdict, advantage)
    assert metric.label.endswith("↑" if metric.better == "higher" else "↓")


def test_json_and_back() -> None:
    for row in (ROW, replace(ROW, metric=LOSS, train_size=50, gap=Interval(0.3))):
        values = json.loads(json.dumps(row.as_json()))
        assert Comparison.from_json(values) == row
        assert values["higher_is_better"] is (row.metric is ACCURACY)
    assert "train_size" not in ROW.as_json()


def test_documents_are_paired_and_items_counted() -> None:
    """A document counts once, however many items it has."""
    scores = {
        "model": [[1.0, 1.0, 1.0, 0.0], [0.0], [1.0]],
        "unigram": [[0.0, 0.0, 1.0, 1.0], [0.0], [0.0]],
    }
    (row,) = compare("text", ACCURACY, scores)
    assert row.per_item == (0.75, 0.0, 1.0)
    assert row.other_per_item == (0.5, 0.0, 0.0)
    assert row.items == 6
    assert row.gap.mean == pytest.approx((0.25 + 0 + 1) / 3) == pytest.approx(row.model - row.other)


def test_one_held_out_record_is_too_few_to_compare() -> None:
    with pytest.raises(DataError, match=r"letters: 1 held-out record\(s\) are too few"):
        list(compare("letters", ACCURACY, {"model": [[1.0, 0.0]], "other": [[0.0, 0.0]]}))
