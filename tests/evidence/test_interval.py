"""Intervals: Student's of paired differences, over seeds, and of a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from broadbase.evidence.interval import Interval, bootstrap_interval, paired_interval


def test_the_paired_interval_is_students() -> None:
    a, b = [0.9, 0.8, 0.85, 0.7], [0.5, 0.6, 0.7, 0.65]
    mean, low, high = paired_interval(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(np.subtract(a, b)))
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert paired_interval([0.5, 0.75], [0.25, 0.5]) == (0.25, 0.25, 0.25)
    for one, other in (([1.0], [0.5]), ([1.0, 2.0], [0.5])):
        with pytest.raises(ValueError, match="2 or more pairs"):
            paired_interval(one, other)


def test_an_interval_over_seeds_is_not_narrower() -> None:
    """Splits of one model depend on each other: where models differ, more splits do not hide it."""
    rng = np.random.default_rng(0)
    a = [m + float(x) for m in (0.0, 0.3, 0.6) for x in rng.normal(0, 0.01, 5)]
    mean, low, high = paired_interval(a, [0.0] * 15, groups=3)
    _, close, _ = paired_interval(a, [0.0] * 15)
    assert low is not None
    assert high is not None
    assert close is not None
    assert low < 0 < close < mean < high


def test_a_bootstrap_interval_is_about_the_gap_and_not_the_resampled_mean() -> None:
    resampled = np.random.default_rng(0).normal(5.0, 2.0, 100_000)
    mean, low, high = bootstrap_interval(1.0, resampled)
    assert mean == 1.0
    assert (low, high) == pytest.approx((1 - 1.96 * 2, 1 + 1.96 * 2), abs=0.05)


@pytest.mark.parametrize(
    ("ends", "above", "below"),
    [
        ((0.1, 0.3), True, False),
        ((-0.3, -0.1), False, True),
        ((-0.1, 0.1), False, False),
        ((0.0, 0.1), False, False),
        ((None, None), False, False),
        ((math.nan, math.nan), False, False),
        ((math.inf, math.inf), False, False),
    ],
)
def test_which_side_of_zero(ends: tuple[float | None, ...], above: bool, below: bool) -> None:
    interval = Interval(0.2, *ends)
    assert (interval.above_zero, interval.below_zero) == (above, below)
