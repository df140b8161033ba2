"""One class for each record.

Legend: M records, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from broadbase.adapt.confident import counted_wrong
from broadbase.adapt.neighbours import NearestClasses, nearest
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import (
    Calibration,
    ClassWeights,
    Labels,
    Opinion,
    Outputs,
    Target,
)
from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import HeadConfig
from broadbase.evidence.comparison import ACCURACY, Metric
from broadbase.nn.spaces.labels import LabelsConfig

MACRO_F1 = Metric("macro-F1", "higher")
PENALTIES = np.logspace(-1, 6, 15)
SHOWN = 20  # classes that a summary names
NEVER = -1e9  # the output of a class that a model has not seen
TEMPERATURES = 1e-3, 1e3  # of outputs, which methods have in units of their own


class ClassesTarget(Target):
    """Classes by name; a record has one."""

    name: Literal["classes"] = "classes"
    exclusive: ClassVar[bool] = True
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """The names of the classes, in the order of their ids."""
    macro: bool = False
    """Whether predictions are scored by the mean F1 of the classes, the rare as much as the common
    ones; otherwise by accuracy."""
    class_weights: ClassWeights = Field(default_factory=dict)
    """How much a record of each class counts where a method learns: 1 unless a class is named, or
    "balanced": all classes together count alike."""

    @property
    def metric(self) -> Metric:
        """Macro-F1, or accuracy."""
        return MACRO_F1 if self.macro else ACCURACY

    @property
    def columns(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.classes

    def parse(self, label: str) -> int | None:
        """Return the id of a class; None where there is no class of that name."""
        return self._ids.get(label)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.classes)}

    def score(self, labels: Labels, outputs: Outputs) -> float:
        """Return accuracy, or the mean F1 of the classes that the labels have."""
        predicted = outputs.argmax(axis=1)
        if self.macro:
            present = np.unique(labels)
            return float(
                f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
            )
        return float((predicted == labels).mean())

    def constant(self, labels: Labels) -> tuple[str, Outputs]:
        """Return the most frequent class for every record."""
        common = np.bincount(labels, minlength=self.columns).argmax()
        return "most frequent class", np.tile(np.eye(self.columns)[common], (len(labels), 1))

    def strata(self, labels: Labels) -> Indices:
        """Return the classes."""
        return labels

    def summary(self, labels: Labels) -> str:
        """Name the classes with their numbers of records, and with their weights."""
        said = f"classes: {named_counts(self.counts(labels))}"
        if not self.is_weighted:
            return said
        weights = zip(self.classes, self._weight_of_class(labels), strict=True)
        return f"{said}; weights: {', '.join(f'{name} {x:.3g}' for name, x in weights)}"

    def counts(self, labels: Labels) -> Mapping[str, int]:
        """Return the number of records of each class, the commonest first."""
        counts = np.bincount(labels, minlength=self.columns)
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: int(counts[i]) for i in order}

    def with_weights(self, weights: ClassWeights) -> ClassesTarget:
        """Return the target with these weights; ConfigError names a class that is none, or 0."""
        for name, weight in weights.items() if isinstance(weights, dict) else ():
            if name not in self.classes:
                near = hint(name, self.classes)
                raise ConfigError(f"--class-weights {name}: there is no such class{near}")
            if not 0 < weight < np.inf:
                raise ConfigError(f"--class-weights {name}={weight:g}: give a number above 0")
        return self.replace(class_weights=weights)

    @property
    def is_weighted(self) -> bool:
        """Whether there are weights."""
        return bool(self.class_weights)

    def weights(self, labels: Labels) -> NDArray[np.float64]:
        """Return the weight of each record's class, [M]."""
        weights: NDArray[np.float64] = self._weight_of_class(labels)[labels]
        return weights

    @property
    def _weights(self) -> Any:
        """The weights as scikit-learn takes them."""
        if not isinstance(self.class_weights, dict):
            return self.class_weights
        named = self.class_weights
        return {i: named.get(name, 1.0) for i, name in enumerate(self.classes)} if named else None

    def _weight_of_class(self, labels: Labels) -> NDArray[np.float64]:
        """Return the weight of each class [K] among these labels; 1 of one that no record has."""
        present, weights = np.unique(labels), np.ones(self.columns)
        if len(present):
            weights[present] = compute_class_weight(self._weights, classes=present, y=labels)
        return weights

    def regressands(self, labels: Labels) -> Outputs:
        """Return 1 for the class of a record and -1 for others, [M,K], as scikit-learn does."""
        return 2 * np.eye(self.columns)[labels] - 1

    def ridge(self) -> Any:
        """Return ridge regression on an indicator of each class."""
        return RidgeClassifierCV(alphas=PENALTIES, class_weight=self._weights)

    def logistic(self) -> Any:
        """Return logistic regression."""
        return LogisticRegression(max_iter=1000, class_weight=self._weights)

    def neighbours(self) -> Any:
        """Return weighted votes of the nearest records."""
        return nearest(NearestClasses, class_weight=self._weights)

    def forest(self) -> Any:
        """Return a forest of 200 trees."""
        return RandomForestClassifier(200, random_state=0, class_weight=self._weights)

    def outputs(self, model: Any, inputs: Any) -> Outputs:
        """Return decision values, or log-probabilities where a model has none, [M,K]."""
        if hasattr(model, "decision_function"):
            raw = np.asarray(model.decision_function(inputs), dtype=np.float64)
            raw = np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw
        else:
            raw = np.log(np.maximum(model.predict_proba(inputs), 1e-12))
        outputs = np.full((len(raw), self.columns), NEVER)
        outputs[:, model.classes_] = raw
        return outputs

    def head(self, labels: Labels) -> HeadConfig:
        """Return a head with a logit for each class."""
        return LabelsConfig(classes=self.classes)

    def head_targets(self, head: HeadConfig, labels: Labels) -> Labels:
        """Return the ids of the classes."""
        return labels

    def head_outputs(self, head: HeadConfig, predictions: Tensor) -> Outputs:
        """Return the logits [M,K]."""
        return predictions.double().cpu().numpy()

    def calibrate(self, outputs: Outputs, labels: Labels) -> Calibration:
        """Fit the temperature of the least log loss (Guo et al. 2017, 4.2); 1 without records.

        Of M records the right class counts as M/(M+1), and the others share the rest, so that
        records without an error do not make every later prediction certain (Platt 1999, 2.2).
        Where classes have weights, a method learns of records in other proportions than they come
        in: then a probability is divided by its class's weight (Elkan 2001, theorem 2).
        """
        weights = {}
        if self.is_weighted:
            weights["log_weights"] = np.log(self._weight_of_class(labels)).tolist()
        if not len(labels):
            return {"temperature": 1.0, **weights}
        seen = outputs > NEVER / 2
        right = np.zeros_like(seen)
        right[np.arange(len(labels)), labels] = True
        others = seen & ~right
        weight = right + others / np.maximum(others.sum(axis=1, keepdims=True), 1) / len(labels)

        def loss(log_temperature: float) -> float:
            calibration = {"temperature": np.exp(log_temperature), **weights}
            likelihood = log_softmax(_logits(outputs, calibration), axis=1)
            return float(-np.where(weight > 0, weight * likelihood, 0.0).sum())

        fit = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
        return {"temperature": float(np.exp(fit.x)), **weights}

    def rows(self, outputs: Outputs, calibration: Calibration) -> Sequence[dict[str, Any]]:
        """Return the class of the largest output, its probability, and that of each class.

        It is the likeliest class, unless classes have weights.
        """
        chances = softmax(_logits(outputs, calibration), axis=1)
        return [
            {
                "label": self.classes[best],
                "probability": float(row[best]),
                **{f"p({name})": float(p) for name, p in zip(self.classes, row, strict=True)},
            }
            for best, row in zip(outputs.argmax(axis=1), chances, strict=True)
        ]

    def opinions(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> Sequence[Opinion]:
        """Suggest the likeliest class; the confidence is the probability of the label."""
        chances = softmax(_logits(outputs, calibration), axis=1)
        return [
            Opinion(self.classes[label], self.classes[row.argmax()], float(row[label]))
            for label, row in zip(labels, chances, strict=True)
        ]

    def wrong(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> NDArray[np.bool_] | None:
        """Count by confident learning."""
        return counted_wrong(labels, softmax(_logits(outputs, calibration), axis=1))


def _logits(outputs: Outputs, calibration: Calibration) -> Outputs:
    """Return calibrated logits [M,K]."""
    logits: Outputs = outputs / calibration["temperature"] - calibration.get("log_weights", 0.0)
    return logits


def named_counts(counts: Mapping[str, int]) -> str:
    """Write the names with their numbers of records; of many the first."""
    named = [f"{name} {count:,}" for name, count in counts.items()]
    more = f", and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
    return f"{', '.join(named[:SHOWN])}{more}"
