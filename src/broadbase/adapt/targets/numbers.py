"""One number for each record.

Legend: M records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from torch import Tensor

from broadbase.adapt.neighbours import NearestNumbers, nearest
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Calibration, Labels, Opinion, Outputs, Target
from broadbase.adapt.targets.classes import PENALTIES
from broadbase.core.spaces import HeadConfig
from broadbase.evidence.comparison import Metric
from broadbase.nn.spaces.labels import ValuesConfig

R2 = Metric("R2", "higher")
COVERED = 0.9  # of records, by the interval of a prediction
STRATA = 5  # fifths of the range, so that every split spans it


class NumbersTarget(Target):
    """Numbers; a record has one."""

    name: Literal["numbers"] = "numbers"

    @property
    def metric(self) -> Metric:
        """The coefficient of determination."""
        return R2

    @property
    def columns(self) -> int:
        """One."""
        return 1

    def parse(self, label: str) -> float | None:
        """Return the number; None where it is none, or not finite."""
        try:
            number = float(label)
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def score(self, labels: Labels, outputs: Outputs) -> float:
        """Return R2."""
        return float(r2_score(labels, outputs[:, 0]))

    def constant(self, labels: Labels) -> tuple[str, Outputs]:
        """Return the mean for every record."""
        return "mean of the labels", np.full((len(labels), 1), labels.mean())

    def strata(self, labels: Labels) -> Indices:
        """Return the fifth of the range by rank."""
        ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
        return ranks * STRATA // len(ranks)

    def summary(self, labels: Labels) -> str:
        """Give the range and the mean."""
        low, high, mean = labels.min(), labels.max(), labels.mean()
        return f"{len(labels):,} numbers from {low:g} to {high:g}, mean {mean:g}"

    def ridge(self) -> Any:
        """Return ridge regression."""
        return RidgeCV(alphas=PENALTIES)

    def neighbours(self) -> Any:
        """Return the weighted mean of the nearest records."""
        return nearest(NearestNumbers)

    def forest(self) -> Any:
        """Return a forest of 200 trees."""
        return RandomForestRegressor(200, random_state=0)

    def outputs(self, model: Any, inputs: Any) -> Outputs:
        """Return the predicted numbers [M,1]."""
        return np.asarray(model.predict(inputs), dtype=np.float64).reshape(-1, 1)

    def head(self, labels: Labels) -> HeadConfig:
        """Return a head for numbers of the scale of these labels."""
        mean, deviation = float(labels.mean()), float(labels.std())
        return ValuesConfig(mean=mean, deviation=deviation or 1.0)

    def head_targets(self, head: HeadConfig, labels: Labels) -> Labels:
        """Return the numbers in the scale of the head."""
        assert isinstance(head, ValuesConfig)
        return head.standardised(labels)

    def head_outputs(self, head: HeadConfig, predictions: Tensor) -> Outputs:
        """Return the predictions [M] in the unit of the labels, [M,1]."""
        assert isinstance(head, ValuesConfig)
        return head.labels(predictions.double())[:, None]

    def calibrate(self, outputs: Outputs, labels: Labels) -> Calibration:
        """Take the half-width that covers 9 of 10 residuals (Lei et al. 2018, split conformal)."""
        residuals = np.abs(outputs[:, 0] - labels)
        level = min(1.0, COVERED * (len(residuals) + 1) / len(residuals))
        return {"half_width": float(np.quantile(residuals, level, method="higher"))}

    def rows(self, outputs: Outputs, calibration: Calibration) -> Sequence[dict[str, Any]]:
        """Return the number, and the ends of the interval that covers 9 of 10 records."""
        half = calibration["half_width"]
        return [
            {"value": float(x), "low": float(x - half), "high": float(x + half)}
            for x in outputs[:, 0]
        ]

    def opinions(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> Sequence[Opinion]:
        """Suggest the predicted number; the confidence is the share of residuals as large."""
        residuals = np.abs(outputs[:, 0] - labels)
        smaller = np.searchsorted(np.sort(residuals), residuals)
        return [
            Opinion(f"{label:g}", f"{output:g}", float(1 - rank / len(labels)))
            for label, output, rank in zip(labels, outputs[:, 0], smaller, strict=True)
        ]
