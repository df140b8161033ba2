"""Confidence intervals of a difference between two scores on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95  # confidence of every interval


class Interval(NamedTuple):
    """A mean difference and the ends of its 95 % interval; None where there is no interval."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def is_finite(self) -> bool:
        """Return whether there is an interval with finite ends."""
        return all(end is not None and math.isfinite(end) for end in (self.low, self.high))

    @property
    def above_zero(self) -> bool:
        """Return whether the lower end is above 0; False if there is no finite interval."""
        return self.is_finite and self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        """Return whether the upper end is below 0; False if there is no finite interval."""
        return self.is_finite and self.high is not None and self.high < 0


def paired_interval(a: Sequence[float], b: Sequence[float], groups: int = 1) -> Interval:
    """Return the mean of a - b and its two-sided 95 % interval.

    The method is Student's t interval of the mean paired difference, as
    `scipy.stats.ttest_rel(a, b).confidence_interval(0.95)` computes it (Student 1908). Pairs in
    `groups` equal blocks (pretraining seeds) may depend on each other: the interval is then the
    wider of that over all pairs and that over the means of the blocks. Where all differences are
    equal, both ends are that number. ValueError for fewer than two pairs.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"paired interval of {len(a)} and {len(b)} scores; give 2 or more pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    samples = [difference, *([difference.reshape(groups, -1).mean(axis=1)] if groups > 1 else [])]
    mean = float(difference.mean())
    tail = (1 + LEVEL) / 2
    half = max(float(stats.t.ppf(tail, len(x) - 1) * stats.sem(x)) for x in samples)
    return Interval(mean, mean - half, mean + half)


def bootstrap_interval(gap: float, resampled: NDArray[np.float64]) -> Interval:
    """Return `gap` and its 95 % bootstrap interval, for statistics that are no mean over items.

    `resampled` are the gaps of resampled items, [R]. The ends are the quantiles of the resampled
    gaps, shifted so that their mean is `gap`: the bootstrap percentile interval with the bootstrap
    estimate of bias removed (Efron & Tibshirani 1993, sections 10.3 and 13.3).
    """
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = gap + np.quantile(resampled - resampled.mean(), tails)
    return Interval(gap, float(low), float(high))
