"""Labels of whole records: a class or a number, predicted from the mean over a record's positions.

A fine-tuned base has them as a modality without a codec, so that its folder says what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.contracts import Codec, Corruption, ModalityConfig, SampleFn
from broadbase.core.errors import ConfigError
from broadbase.nn.laws import OutputLinear
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig


class LabelsConfig(ModalityConfig):
    """The classes of a task by name, in the order of their ids."""

    name: Literal["labels"] = "labels"
    classes: Annotated[tuple[str, ...], Field(min_length=2)]

    def space(self, width: int) -> Discrete:
        return DiscreteConfig(vocab_size=len(self.classes)).build(width)

    def standardised(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Ids as they are."""
        return labels

    def labels(self, predictions: Tensor) -> NDArray[Any]:
        """The likeliest class of each row of logits [M,C], as its id."""
        return predictions.argmax(dim=-1).cpu().numpy()

    def fit(self, records: Iterable[Any]) -> Codec:
        raise ConfigError("labels come with a task; they cannot be a source of pretraining")

    def load(self, folder: Path) -> Codec:
        return self.fit(())

    def corruption(self) -> Corruption:
        raise ConfigError("labels are never corrupted")


class ValuesConfig(ModalityConfig):
    """A number a record, and the mean and deviation that it was standardised with."""

    name: Literal["values"] = "values"
    mean: float = 0.0
    deviation: Annotated[float, Field(gt=0)] = 1.0

    def space(self, width: int) -> Number:
        return Number(width)

    def standardised(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Numbers with mean 0 and deviation 1."""
        return ((labels - self.mean) / self.deviation).astype(np.float32)

    def labels(self, predictions: Tensor) -> NDArray[Any]:
        """Standardised predictions [M] in the unit of the labels."""
        return self.mean + self.deviation * predictions.cpu().numpy()

    def fit(self, records: Iterable[Any]) -> Codec:
        raise ConfigError("values come with a task; they cannot be a source of pretraining")

    def load(self, folder: Path) -> Codec:
        return self.fit(())

    def corruption(self) -> Corruption:
        raise ConfigError("values are never corrupted")


class Number(nn.Module):
    """Numbers [B,N] with mean 0 and deviation 1: a projection out, half the squared error."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.output = OutputLinear(width, 1)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        raise ConfigError("a value is predicted, never read")

    def predict(self, x: Tensor) -> Tensor:
        return self.output(x).squeeze(-1)  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        return (self.predict(x) - target).square() / 2

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        return prediction
