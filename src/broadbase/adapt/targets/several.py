"""Several labels for each record: each is there or not.

Legend: M records, K labels.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score
from torch import Tensor

from broadbase.adapt.confident import counted_wrong
from broadbase.adapt.neighbours import NearestNumbers, nearest
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Calibration, Labels, Opinion, Outputs, Target
from broadbase.adapt.targets.classes import PENALTIES, named_counts
from broadbase.core.spaces import HeadConfig
from broadbase.core.trees import brief
from broadbase.evidence.comparison import Metric
from broadbase.nn.spaces.labels import SeveralConfig

MEAN_PRECISION = Metric("mean average precision", "higher")
SEPARATORS = ";|"


class SeveralTarget(Target):
    """Names of labels; a record has any number of them."""

    name: Literal["several"] = "several"
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    """The names of the labels, in the order of the columns."""

    @property
    def metric(self) -> Metric:
        """The mean over labels of the average precision, which needs no threshold."""
        return MEAN_PRECISION

    @property
    def columns(self) -> int:
        """The number of labels."""
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.labels

    def parse(self, label: str) -> Any:
        """Return 1 for each label that is named and 0 for others [K]; None for a strange name."""
        try:
            parts = separated(label)
        except ValueError:
            return None
        return self.indicators(parts) if all(part in self._columns for part in parts) else None

    def indicators(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return 1 for each of some labels and 0 for others, [K]."""
        row = np.zeros(self.columns, np.int64)
        row[[self._columns[label] for label in labels]] = 1
        return row

    @cached_property
    def _columns(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.labels)}

    def score(self, labels: Labels, outputs: Outputs) -> float:
        """Return the mean average precision of the labels that some of the records have."""
        each = [
            average_precision_score(there, output)
            for there, output in zip(labels.T, outputs.T, strict=True)
            if there.any()
        ]
        return float(np.mean(each)) if each else 0.0

    def constant(self, labels: Labels) -> tuple[str, Outputs]:
        """Return the share of records that have each label, for every record."""
        return "share of each label", np.tile(labels.mean(axis=0), (len(labels), 1))

    def strata(self, labels: Labels) -> Indices:
        """Return the rarest label of each record; K where it has none."""
        counts = np.append(labels.sum(axis=0), len(labels) + 1)
        there = np.append(labels, np.ones((len(labels), 1), np.int64), axis=1)
        strata: Indices = np.where(there > 0, counts, len(labels) + 2).argmin(axis=1)
        return strata

    def summary(self, labels: Labels) -> str:
        """Name the labels with their numbers of records, and how many a record has."""
        mean = labels.sum(axis=1).mean()
        return f"labels: {named_counts(self.counts(labels))}; a record has {mean:.1f} on average"

    def counts(self, labels: Labels) -> Mapping[str, int]:
        """Return the number of records of each label, the commonest first."""
        counts = labels.sum(axis=0)
        return {self.labels[i]: int(counts[i]) for i in np.argsort(-counts, kind="stable")}

    def ridge(self) -> Any:
        """Return ridge regression on an indicator of each label."""
        return RidgeCV(alphas=PENALTIES)

    def neighbours(self) -> Any:
        """Return the weighted share of the nearest records that have a label."""
        return nearest(NearestNumbers)

    def forest(self) -> Any:
        """Return a forest of 200 trees."""
        return RandomForestRegressor(200, random_state=0)

    def outputs(self, model: Any, inputs: Any) -> Outputs:
        """Return what a model predicts of each label's indicator, [M,K]."""
        return np.asarray(model.predict(inputs), dtype=np.float64).reshape(-1, self.columns)

    def head(self, labels: Labels) -> HeadConfig:
        """Return a head with a logit for each label."""
        return SeveralConfig(labels=self.labels)

    def head_targets(self, head: HeadConfig, labels: Labels) -> Labels:
        """Return the indicators [M,K]."""
        return labels.astype(np.float32)

    def head_outputs(self, head: HeadConfig, predictions: Tensor) -> Outputs:
        """Return the logits [M,K]."""
        return predictions.double().cpu().numpy()

    def calibrate(self, outputs: Outputs, labels: Labels) -> Calibration:
        """Fit a logistic curve for each label, with smoothed targets (Platt 1999, 2.2)."""
        curves = [_curve(x, y) for x, y in zip(outputs.T, labels.T, strict=True)]
        return {"slopes": [a for a, _ in curves], "offsets": [b for _, b in curves]}

    def rows(self, outputs: Outputs, calibration: Calibration) -> Sequence[dict[str, Any]]:
        """Return the labels that are likelier there than not, and the probability of each."""
        chances = _chances(outputs, calibration)
        return [
            {
                "label": self._named(row >= 0.5),
                **{f"p({name})": float(p) for name, p in zip(self.labels, row, strict=True)},
            }
            for row in chances
        ]

    def opinions(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> Sequence[Opinion]:
        """Suggest the likely labels; the confidence is that in the most doubtful of all labels."""
        chances = _chances(outputs, calibration)
        confidence = np.where(labels == 1, chances, 1 - chances).min(axis=1)
        join = SEPARATORS[0].join
        return [
            Opinion(join(self._named(own == 1)), join(self._named(row >= 0.5)), float(sure))
            for own, row, sure in zip(labels, chances, confidence, strict=True)
        ]

    def wrong(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> NDArray[np.bool_] | None:
        """Count by confident learning for each label; a record is wrong if one of its labels is."""
        chances = _chances(outputs, calibration)
        each = [
            counted_wrong(there, np.stack([1 - p, p], axis=1))
            for there, p in zip(labels.T, chances.T, strict=True)
        ]
        wrong: NDArray[np.bool_] = np.any(each, axis=0)
        return wrong

    def _named(self, there: NDArray[np.bool_]) -> list[str]:
        """Return the names of the labels that are there [K]."""
        return [name for name, each in zip(self.labels, there, strict=True) if each]


def _chances(outputs: Outputs, calibration: Calibration) -> NDArray[np.float64]:
    """Return the probability of each label, [M,K]."""
    chances: NDArray[np.float64] = expit(outputs * calibration["slopes"] + calibration["offsets"])
    return chances


def separated(label: str) -> list[str]:
    """Return the labels in a written one: a list of JSON or Python, or with `;` or `|` between.

    ValueError where a list is broken.
    """
    label = label.strip()
    if label.startswith("["):
        parts = _listed(label)
    else:
        parts = label.replace(SEPARATORS[1], SEPARATORS[0]).split(SEPARATORS[0])
    return list(dict.fromkeys(part for each in parts if (part := str(each).strip())))


def _listed(text: str) -> Sequence[Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            parts = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parts, list):
            return parts
    raise ValueError(f'labels {brief(text)} are a broken list; write ["a", "b"], or a;b')


def _curve(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return slope and offset of the logistic curve of the least log loss."""
    positive, center, scale = int(labels.sum()), outputs.mean(), outputs.std() or 1.0
    negative = len(labels) - positive
    smoothed = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    scaled = (outputs - center) / scale

    def loss(curve: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = curve[0] * scaled + curve[1]
        error = expit(logits) - smoothed
        value = (np.logaddexp(0, logits) - smoothed * logits).mean()
        return float(value), np.array([(error * scaled).mean(), error.mean()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope / scale), float(offset - slope * center / scale)
