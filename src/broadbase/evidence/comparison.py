"""The one record for a number: a model's score against a baseline's on the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from broadbase.core.errors import DataError
from broadbase.evidence.interval import Interval, paired_interval

MODEL = "model"  # the key of the model's scores among those of its baselines

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Metric:
    """What a score is, and which direction is better."""

    name: str  # "bits per byte", "accuracy"
    better: Literal["lower", "higher"]

    @property
    def label(self) -> str:
        """Return the name with an arrow in the direction that is better, as lm-eval prints it."""
        return f"{self.name} {'↓' if self.better == 'lower' else '↑'}"


ACCURACY = Metric("accuracy", "higher")
MSE = Metric("mean squared error", "lower")


@dataclass(frozen=True)
class Comparison:
    """A model's score against that of one baseline on the same held-out items.

    The gap is `model - other`, paired, with its 95 % interval.
    """

    subject: str  # the data source or the task
    metric: Metric
    baseline: str
    items: int  # held-out items behind each score
    model: float
    other: float  # the baseline's score
    gap: Interval
    train_size: int | None = None  # labelled records of a task that were learned from
    per_item: tuple[float, ...] = ()  # scores of the model by document or by split
    other_per_item: tuple[float, ...] = ()  # scores of the baseline, in the same order

    @property
    def verdict(self) -> Verdict:
        """Return whether the model is better or worse; undecided where the interval holds 0."""
        if not (self.gap.above_zero or self.gap.below_zero):
            return "undecided"
        return "better" if self.gap.above_zero == (self.metric.better == "higher") else "worse"

    @property
    def advantage(self) -> float:
        """Return the gap in the direction that is better: positive where the model is ahead."""
        return self.gap.mean if self.metric.better == "higher" else -self.gap.mean

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values; scores by item are left out."""
        return {
            "subject": self.subject,
            "metric": self.metric.name,
            "higher_is_better": self.metric.better == "higher",
            "baseline": self.baseline,
            "items": self.items,
            "score": self.model,
            "baseline_score": self.other,
            "gap": self.gap.mean,
            "ci_low": self.gap.low,
            "ci_high": self.gap.high,
            **({} if self.train_size is None else {"train_size": self.train_size}),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Comparison:
        """Return the record that `as_json` made into `row`; other keys are ignored."""
        return cls(
            subject=row["subject"],
            metric=Metric(row["metric"], "higher" if row["higher_is_better"] else "lower"),
            baseline=row["baseline"],
            items=row["items"],
            model=row["score"],
            other=row["baseline_score"],
            gap=Interval(row["gap"], row["ci_low"], row["ci_high"]),
            train_size=row.get("train_size"),
        )


def compare(
    subject: str, metric: Metric, scores: Mapping[str, Sequence[Sequence[float]]]
) -> Iterator[Comparison]:
    """Compare the model with every baseline on the items of each document.

    `scores` has, by baseline, the scores of the items of every document; the model's are under
    "model". The interval is over documents, each with the mean of its items. DataError where there
    is one document or none.
    """
    model = [float(np.mean(items)) for items in scores[MODEL]]
    if len(model) < 2:
        raise DataError(
            f"{subject}: {len(model)} held-out record(s) are too few to compare on; give more data,"
            " or train with a larger data.holdout"
        )
    for baseline, documents in scores.items():
        if baseline != MODEL:
            other = [float(np.mean(items)) for items in documents]
            yield Comparison(
                subject,
                metric,
                baseline,
                items=sum(map(len, documents)),
                model=float(np.mean(model)),
                other=float(np.mean(other)),
                gap=paired_interval(model, other),
                per_item=tuple(model),
                other_per_item=tuple(other),
            )
