"""Tables: numbers on the right, and comparisons with their direction."""

from __future__ import annotations

import pytest

from broadbase.evidence.comparison import Comparison, Metric
from broadbase.evidence.interval import Interval
from broadbase.report.tables import print_comparisons, print_table

ROW = Comparison(
    "text", Metric("bits per byte", "lower"), "unigram", 100, 2.0, 3.0, Interval(-1.0, -1.5, -0.5)
)


def test_numbers_stand_on_the_right_and_words_on_the_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"n": 5, "x": 0.5, "w": "a"}, {"n": "1,000", "x": None, "w": "long"}]
    print_table(rows, ("n", "x", "w", "missing"), "title")
    lines = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert lines[0] == "title"
    assert lines[-2:] == ["      5   0.500   a", "  1,000           long"]


def test_a_comparison_is_a_row_with_the_better_direction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    higher = Comparison("t", Metric("accuracy", "higher"), "mean", 9, 0.5, 0.25, Interval(0.25))
    print_comparisons([ROW, higher], "held-out data")
    out = capsys.readouterr().out
    assert "bits per byte ↓" in out
    assert "accuracy ↑" in out
    assert "-1.500 -0.500" in out
    assert "+0.250" in out
    assert "None" not in out
    assert "labels" not in out  # no row has any
