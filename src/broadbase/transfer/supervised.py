"""Supervised: a label is a value of a Space of its own, read from the mean of a whole stream."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from broadbase.core.contracts import Choose, Codec, Corruption, ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.nn.spaces import Discrete, DiscreteConfig


class LabelsConfig(ModalityConfig):
    """The classes of a task."""

    name: Literal["labels"] = "labels"
    classes: Annotated[int, Field(ge=2)]

    def space(self, width: int) -> Discrete:
        return DiscreteConfig(vocabulary=self.classes).build(width)

    def fit(self, records: Iterable[Any]) -> Codec:
        raise ConfigError("labels come with a task; they cannot be a source of pretraining")

    def load(self, folder: Path) -> Codec:
        return self.fit(())

    def corruption(self) -> Corruption:
        raise ConfigError("labels are never corrupted")


class ValuesConfig(ModalityConfig):
    """A number a record, standardised."""

    name: Literal["values"] = "values"

    def space(self, width: int) -> Number:
        return Number(width)

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
        self.output = nn.Linear(width, 1)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        raise ConfigError("a value is predicted, never read")

    def predict(self, x: Tensor) -> Tensor:
        return self.output(x).squeeze(-1)  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        return (self.predict(x) - target).square() / 2

    def sample(self, prediction: Tensor, choose: Choose) -> Tensor:
        return prediction
