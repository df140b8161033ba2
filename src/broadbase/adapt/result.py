"""What adapting a model to a labelled task gives: comparisons, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broadbase.evidence.comparison import Comparison, Metric
from broadbase.evidence.interval import Interval, paired_interval

MIN_SPLITS = 3  # that an interval is given for; of two it is a guess
RANDOM_INIT = "random init"  # the same architecture, not pretrained
UNCHANGED = "unchanged base"  # the same method, without training the base first
MOST_FREQUENT = "most frequent class"
CONSTANTS = (  # read no record
    MOST_FREQUENT,
    "mean of the labels",
    "share of each label",
    "most frequent text",
)


@dataclass(frozen=True)
class TaskResult:
    """A model adapted to one task by one method from one number of labels, against all baselines.

    The scores behind each comparison are those of the splits; with several pretraining seeds all
    splits of the first, then all of the second. `comparisons` holds a baseline that reads no
    record, random initialisation, and then those of hand-made features.
    """

    task: str
    method: str
    metric: Metric
    train_size: int  # labelled records to learn from, of each split
    test_size: int  # records to test on, of each split
    scores: tuple[float, ...]  # of the model by split
    comparisons: tuple[Comparison, ...]
    seeds: int = 1  # pretraining seeds
    truncated: int = 0  # records of which the model read the beginning
    max_tokens: int = 0  # that the model reads of a record
    labels: str = ""  # what the labels are, in a line
    class_counts: Mapping[str, int] = field(default_factory=dict)  # records of each class
    own_test: bool = False  # whether the task says what is tested on: one split
    interval: Interval | None = None  # of the score on that test
    notes: tuple[str, ...] = ()  # what was left out, and what may be a mistake in the labels
    members: tuple[tuple[float, ...], ...] = ()  # by split, of each predictor that is combined
    remarks: tuple[str, ...] = ()  # what is odd with what was predicted, and what is not measured

    @property
    def spread(self) -> str:
        """How far the scores of the orders of examples lie apart; empty where there is one order.

        Of several splits, it is the mean of each number (Lu et al. 2022).
        """
        rows = [row for row in self.members if len(row) > 1]
        if not rows:
            return ""
        low, high, deviation = (np.mean([f(row) for row in rows]) for f in (min, max, np.std))
        return (
            f"{self.metric.name} by the order of the examples, {len(rows[0])} orders: {low:.3f} to"
            f" {high:.3f}, standard deviation {deviation:.3f}"
        )

    @property
    def splits(self) -> int:
        """The number of splits of each pretraining seed."""
        return len(self.scores) // self.seeds

    @property
    def title(self) -> str:
        """What is compared, in words."""
        cut = ""
        if self.truncated:
            records = "record" if self.truncated == 1 else "records"
            cut = f", {self.truncated:,} {records} truncated to {self.max_tokens:,} tokens"
        interval = (
            "95 % intervals" if self.splits >= MIN_SPLITS else f"{self.splits} splits: no interval"
        )
        if self.interval is not None:
            _, low, high = self.interval
            interval = f"score {low:.3f} to {high:.3f}, 95 % bootstrap intervals over these records"
        elif self.own_test:
            interval = "too few for an interval"
        return (
            f"{self.task}, {self.method}: {self.metric.name} on {self.test_size} records from"
            f" {self.train_size} labels{cut}, {interval}"
        )

    @property
    def random_init(self) -> Comparison:
        """The comparison with random initialisation."""
        return self.against(RANDOM_INIT)

    @property
    def chance(self) -> Comparison:
        """The comparison with the best answer that reads no record."""
        return next(row for row in self.comparisons if row.baseline in CONSTANTS)

    @property
    def best_features(self) -> Comparison | None:
        """The comparison with the best of the hand-made features, where there are any."""
        others = (RANDOM_INIT, UNCHANGED, *CONSTANTS)
        rows = [row for row in self.comparisons if row.baseline not in others]
        return max(rows, key=lambda row: row.other, default=None)

    def against(self, baseline: str) -> Comparison:
        """Return the comparison with a baseline; KeyError where there is none of that name."""
        return {row.baseline: row for row in self.comparisons}[baseline]

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values, with the scores of every split."""
        best = self.best_features
        return {
            "task": self.task,
            "method": self.method,
            "metric": self.metric.name,
            "train_size": self.train_size,
            "test_size": self.test_size,
            "splits": self.splits,
            "pretraining_seeds": self.seeds,
            "truncated": self.truncated,
            "max_tokens": self.max_tokens,
            "labels": self.labels,
            "class_counts": dict(self.class_counts),
            "notes": [*self.notes, *self.remarks],
            "best_features": None if best is None else best.baseline,
            "scores": list(self.scores),
            **({} if not self.members else {"order_scores": [list(row) for row in self.members]}),
            **({} if self.interval is None else {"interval": list(self.interval[1:])}),
            "comparisons": [
                {**row.as_json(), "baseline_scores": list(row.other_per_item)}
                for row in self.comparisons
            ],
        }


def compare_splits(
    task: str,
    metric: Metric,
    sizes: tuple[int, int],
    scores: Sequence[float],
    baselines: Mapping[str, Sequence[float]],
    seeds: int = 1,
) -> tuple[Comparison, ...]:
    """Compare the scores of every split with those of each baseline.

    `sizes` are the numbers of labels and of test records. `scores` are those of `seeds` pretrained
    models, of each all splits; a baseline's scores are those of all splits, once. There is no
    interval of fewer than 3 splits.
    """
    train_size, test_size = sizes
    comparisons = []
    for name, by_split in baselines.items():
        other = tuple(by_split) * seeds
        if len(by_split) < MIN_SPLITS:
            gap = Interval(float(np.mean(np.subtract(scores, other))))
        else:
            gap = paired_interval(scores, other, seeds)
        comparison = Comparison(
            task,
            metric,
            name,
            items=test_size,
            model=float(np.mean(scores)),
            other=float(np.mean(other)),
            gap=gap,
            train_size=train_size,
            per_item=tuple(scores),
            other_per_item=other,
        )
        comparisons.append(comparison)
    return tuple(comparisons)
