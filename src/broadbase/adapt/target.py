"""What the labels of a task are: the slot of targets.

A target says how labels become arrays, how predictions are scored, calibrated and written, and
which linear model and which head of a network predicts them. A kind of label is a file of
`adapt/targets`.

Legend: M records (or tokens, where tokens are labelled), K columns of outputs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from broadbase.adapt.splits import Indices
from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import HeadConfig
from broadbase.evidence.comparison import Metric

Outputs = NDArray[Any]  # [M,K]: a logit for each class, or a number; of texts [M,1] objects
Labels = NDArray[Any]  # [M], or [M,K] where a record has several
ClassWeights = Literal["balanced"] | dict[str, float]  # by the name of a class
Calibration = Mapping[str, Any]  # plain values, fitted on outputs for records not learned from


class Opinion(NamedTuple):
    """What a model says of the label of one record."""

    label: str  # as it is
    suggested: str  # as the model would give it
    confidence: float  # from 0 to 1: how sure the model is of the label as it is


class Target(Slot):
    """The kind of labels of a task."""

    package: ClassVar[str] = "adapt.targets"
    generates: ClassVar[bool] = False
    """Whether labels are texts, which no vector says: a base generates them."""
    exclusive: ClassVar[bool] = False
    """Whether a record has exactly one of the names."""

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """What predictions are scored by."""

    @property
    @abstractmethod
    def columns(self) -> int:
        """The number of columns K of outputs."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns; none where labels are numbers."""
        return ()

    @abstractmethod
    def parse(self, label: str) -> Any:
        """Return a written label as an element [] or [K] of the labels; None where it is none."""

    @abstractmethod
    def score(self, labels: Labels, outputs: Outputs) -> float:
        """Return the metric of outputs [M,K] for the records of these labels."""

    @abstractmethod
    def constant(self, labels: Labels) -> tuple[str, Outputs]:
        """Return the best outputs [M,K] that read no record, and what they are called."""

    @abstractmethod
    def strata(self, labels: Labels) -> Indices:
        """Return the stratum [M] of each record: every split has all strata in proportion."""

    @abstractmethod
    def summary(self, labels: Labels) -> str:
        """Say what the labels are, in one line."""

    def counts(self, labels: Labels) -> Mapping[str, int]:
        """Return how many records each class has, the commonest first; none of numbers."""
        return {}

    def with_weights(self, weights: ClassWeights) -> Target:
        """Return the target whose records count by their class; ConfigError where none has one."""
        raise ConfigError(f"labels that are {self.name} have no classes to weigh (--class-weights)")

    @property
    def is_weighted(self) -> bool:
        """Whether records count by their class."""
        return False

    def weights(self, labels: Labels) -> NDArray[np.float64]:
        """Return how much each record counts, [M], where a method learns from these."""
        return np.ones(len(labels))

    def encoded(self, labels: Labels) -> NDArray[Any]:
        """Return labels as numbers that a file can hold."""
        return labels

    def decoded(self, numbers: NDArray[Any]) -> Labels:
        """Return the labels that `encoded` made these numbers of."""
        return numbers

    def regressands(self, labels: Labels) -> NDArray[np.float64]:
        """Return the numbers [M,K] that ridge regression fits in place of labels."""
        return labels.reshape(len(labels), self.columns).astype(np.float64)

    @abstractmethod
    def ridge(self) -> Any:
        """Return ridge regression, its penalty chosen by leave-one-out error on what it is fit."""

    def logistic(self) -> Any:
        """Return logistic regression; ridge regression where labels are no classes."""
        return self.ridge()

    @abstractmethod
    def neighbours(self) -> Any:
        """Return the k-nearest-neighbour model."""

    @abstractmethod
    def forest(self) -> Any:
        """Return a random forest."""

    @abstractmethod
    def outputs(self, model: Any, inputs: Any) -> Outputs:
        """Return the outputs [M,K] of a fitted scikit-learn model; a class it never saw is last."""

    @abstractmethod
    def head(self, labels: Labels) -> HeadConfig:
        """Return the head of a network for these labels."""

    @abstractmethod
    def head_targets(self, head: HeadConfig, labels: Labels) -> Labels:
        """Return the labels [M] as that head is trained on them."""

    @abstractmethod
    def head_outputs(self, head: HeadConfig, predictions: Tensor) -> Outputs:
        """Return the predictions of that head as outputs [M,K]."""

    @abstractmethod
    def calibrate(self, outputs: Outputs, labels: Labels) -> Calibration:
        """Fit what turns outputs into probabilities, or intervals, on records not learned from."""

    @abstractmethod
    def opinions(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> Sequence[Opinion]:
        """Return what outputs [M,K] of models that did not see the records say of their labels."""

    def wrong(
        self, labels: Labels, outputs: Outputs, calibration: Calibration
    ) -> NDArray[np.bool_] | None:
        """Return which labels are counted as wrong, [M]; None where they cannot be counted."""
        return None

    @abstractmethod
    def rows(self, outputs: Outputs, calibration: Calibration) -> Sequence[dict[str, Any]]:
        """Return what is predicted of each record as a row of named plain values."""
