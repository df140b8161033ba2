"""Pretrained against random init, split by split: paired differences with their interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """One row of a transfer table: scores in [0, 1], seed by seed, and their paired difference."""

    task: str
    method: str
    labels: int
    test: int  # test records a seed
    chance: float  # the share of the largest class
    pretrained: tuple[float, ...]
    random: tuple[float, ...]

    @property
    def gain(self) -> tuple[float, float, float]:
        """Mean paired difference and its 95 % t-interval over the seeds: mean, low, high."""
        return paired_interval(self.pretrained, self.random)

    def row(self) -> dict[str, Any]:
        """The comparison as plain numbers, for JSON."""
        mean, low, high = self.gain
        return {
            **asdict(self),
            "pretrained_mean": float(np.mean(self.pretrained)),
            "random_mean": float(np.mean(self.random)),
            "gain": mean,
            "gain_low": low,
            "gain_high": high,
        }


def paired_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a - b and its two-sided 95 % Student interval; needs at least two pairs.

    Where all differences are equal the interval is that one number.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"paired interval of {len(a)} and {len(b)} scores; give 2 or more pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    mean = float(difference.mean())
    half = float(stats.t.ppf(0.975, len(a) - 1) * stats.sem(difference))
    return mean, mean - half, mean + half
