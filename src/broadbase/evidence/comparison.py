"""Pretrained against random init, split by split: paired differences with their interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

FEWEST = 3  # splits that an interval is told of; of two it is a guess


Interval = tuple[float, float | None, float | None]  # mean, low, high


@dataclass(frozen=True)
class Comparison:
    """One row of a transfer table: scores split by split, and their paired differences.

    With several pretraining seeds, `pretrained` and `random` hold all splits of the first seed,
    then all of the second.
    """

    task: str
    method: str
    labels: int
    test: int  # test records a split
    chance: float  # the score of the best answer that reads no record
    pretrained: tuple[float, ...]
    random: tuple[float, ...]
    metric: str = "accuracy"
    bases: int = 1  # pretraining seeds
    classical: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # a score a split
    cut: int = 0  # records of which the base read the beginning
    limit: int = 0  # positions that it reads of a record
    summary: str = ""  # what the labels are
    counts: Mapping[str, int] = field(default_factory=dict)  # records of each class
    notes: tuple[str, ...] = ()  # what was left out, and what is odd in the labels

    @property
    def title(self) -> str:
        """What is compared, in words."""
        many = "s" if self.cut > 1 else ""
        cut = f", {self.cut:,} record{many} cut at {self.limit:,} positions" if self.cut else ""
        splits = len(self.pretrained) // self.bases
        interval = "95 % intervals" if splits >= FEWEST else f"{splits} splits: no interval"
        return (
            f"{self.task}, {self.method}: {self.metric} on {self.test} records from"
            f" {self.labels} labels{cut}, {interval}"
        )

    @property
    def guess(self) -> str:
        """What the score without reading a record, `chance`, always answers."""
        return "commonest class" if self.metric != "R2" else "mean"

    @property
    def gain(self) -> Interval:
        """Mean paired difference to random init and its 95 % t-interval: mean, low, high.

        Without an interval (None) where there are fewer than 3 splits.
        """
        return self._interval(self.random)

    @property
    def best(self) -> str | None:
        """The classical baseline of the highest mean."""
        return max(self.classical, key=lambda n: float(np.mean(self.classical[n])), default=None)

    @property
    def lead(self) -> Interval | None:
        """The same difference to the best classical baseline; None where there is none."""
        if self.best is None:
            return None
        return self._interval(self.classical[self.best] * self.bases)

    def _interval(self, others: Sequence[float]) -> Interval:
        mean, low, high = paired_interval(self.pretrained, others, self.bases)
        return (mean, low, high) if len(others) >= FEWEST * self.bases else (mean, None, None)

    def row(self) -> dict[str, Any]:
        """The comparison as plain numbers, for JSON."""
        mean, low, high = self.gain
        best, lead = self.best, self.lead
        return {
            **asdict(self),
            "guess": self.guess,
            "best": best,
            "best_mean": None if best is None else float(np.mean(self.classical[best])),
            "lead": lead and lead[0],
            "lead_low": lead and lead[1],
            "lead_high": lead and lead[2],
            "pretrained_mean": float(np.mean(self.pretrained)),
            "random_mean": float(np.mean(self.random)),
            "gain": mean,
            "gain_low": low,
            "gain_high": high,
        }


def paired_interval(
    a: Sequence[float], b: Sequence[float], groups: int = 1
) -> tuple[float, float, float]:
    """Mean of a - b and its two-sided 95 % Student interval; needs at least two pairs.

    Pairs in `groups` equal blocks (pretraining seeds) may hang together: the interval is the wider
    of that over all pairs and that over the blocks' means. Where all differences are equal it is
    that one number.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"paired interval of {len(a)} and {len(b)} scores; give 2 or more pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    samples = [difference, *([difference.reshape(groups, -1).mean(axis=1)] if groups > 1 else [])]
    mean = float(difference.mean())
    half = max(float(stats.t.ppf(0.975, len(x) - 1) * stats.sem(x)) for x in samples)
    return mean, mean - half, mean + half
