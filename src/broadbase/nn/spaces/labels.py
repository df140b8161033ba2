"""Heads for labels of records: a class, a number, or several labels.

A fine-tuned base has one, so that its folder says what the labels mean.

Legend: B rows, S scored positions, D width, M records, C classes, K labels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from broadbase.core.spaces import Head, HeadConfig
from broadbase.nn.laws import OutputLinear
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig


class LabelsConfig(HeadConfig):
    """Settings of classes."""

    name: Literal["labels"] = "labels"
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """The classes in the order of their ids."""

    def build(self, width: int) -> Discrete:
        """Return the head for a tower of `width`."""
        return DiscreteConfig(vocab_size=len(self.classes)).build(width)

    def standardised(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return targets of labels: their ids, unchanged."""
        return labels

    def labels(self, predictions: Tensor) -> NDArray[Any]:
        """Return the id of the likeliest class of each row of logits [M,C]."""
        return predictions.argmax(dim=-1).cpu().numpy()


class ValuesConfig(HeadConfig):
    """Settings of numbers."""

    name: Literal["values"] = "values"
    mean: float = 0.0
    """The mean of the training labels."""
    deviation: Annotated[float, Field(gt=0)] = 1.0
    """The standard deviation of the training labels."""

    def build(self, width: int) -> Number:
        """Return the head for a tower of `width`."""
        return Number(width)

    def standardised(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Return targets of labels: numbers of mean 0 and deviation 1."""
        return ((labels - self.mean) / self.deviation).astype(np.float32)

    def labels(self, predictions: Tensor) -> NDArray[Any]:
        """Return standardised predictions [M] in the unit of the labels."""
        return self.mean + self.deviation * predictions.cpu().numpy()


class SeveralConfig(HeadConfig):
    """Settings of labels of which a record has any number."""

    name: Literal["several"] = "several"
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    """The labels in the order of the columns."""

    def build(self, width: int) -> Several:
        """Return the head for a tower of `width`."""
        return Several(width, len(self.labels))


class Several(Head):
    """A logit [B,S,K] for each label: a projection, the mean binary cross entropy."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.output = OutputLinear(width, labels)

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,S,K]."""
        logits: Tensor = self.output(x)
        return logits

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the mean binary cross entropy of indicators [B,S,K] in nats, [B,S]."""
        loss = binary_cross_entropy_with_logits(self.predict(x), target, reduction="none")
        return loss.mean(dim=-1)


class Number(Head):
    """Numbers [B,S] of mean 0 and deviation 1: a projection, half the squared error."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.output = OutputLinear(width, 1)

    def predict(self, x: Tensor) -> Tensor:
        """Return numbers [B,S]."""
        return self.output(x).squeeze(-1)  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return half the squared error of numbers [B,S], [B,S]."""
        return (self.predict(x) - target).square() / 2
