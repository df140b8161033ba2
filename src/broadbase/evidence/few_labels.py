"""Scores of several models on a task with few labels of each class, on the same splits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from broadbase.evidence.interval import Interval, paired_interval

PUBLISHED, OWN = "published base", "own base"
RANDOM, FEATURES = "random init", "hand-made features"
POOLED = ("LSA with the pool", "LSA centroids with the pool")  # features that use the pool

Scores = tuple[float, ...]  # one for each split


class Best(NamedTuple):
    """The method of a model with the best mean, and its scores."""

    method: str
    scores: Scores

    @property
    def mean(self) -> float:
        """The mean over the splits."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class FewLabels:
    """A task at one number of labels of each class."""

    task: str
    labels: int  # of each class
    scores: Mapping[str, Mapping[str, Scores]]  # of each model and method

    def of(self, model: str, method: str) -> Best:
        """Return the scores of a method that was chosen in advance."""
        return Best(method, self.scores[model][method])

    def best(self, model: str, without: Collection[str] = ()) -> Best:
        """Return the best method of a model: chosen on the tested records, which favours it."""
        methods = {k: v for k, v in self.scores[model].items() if k not in without}
        method = max(methods, key=lambda name: float(np.mean(methods[name])))
        return Best(method, methods[method])

    def lead(self, method: str, model: str = FEATURES, without: Collection[str] = ()) -> Interval:
        """Return how far the published base is above the best of another model."""
        own = self.of(PUBLISHED, method)
        return paired_interval(own.scores, self.best(model, without).scores)

    def as_json(self) -> dict[str, Any]:
        """Return the scores as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> FewLabels:
        """Return the record that `as_json` made into `row`."""
        scores = {
            model: {name: tuple(each) for name, each in methods.items()}
            for model, methods in row["scores"].items()
        }
        return cls(row["task"], row["labels"], scores)


def macro(rows: Iterable[Sequence[float]]) -> Scores:
    """Return the mean over tasks of each split's scores."""
    return tuple(float(x) for x in np.mean(np.array(list(rows)), axis=0))


def mean_interval(scores: Sequence[float]) -> Interval:
    """Return the mean over splits and its 95 % interval."""
    return paired_interval(scores, [0.0] * len(scores))
