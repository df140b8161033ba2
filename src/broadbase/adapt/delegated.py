"""What another method learned, for a method that chooses or prepares it.

Legend: M records, K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import field_validator

from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.target import Outputs, Target
from broadbase.inference.base import Base
from broadbase.nn.adapters.adapter import AdapterWeights


@dataclass(frozen=True)
class Delegated(Fitted):
    """What another method learned, for a method that chooses or prepares it."""

    learned: Fitted

    @property
    def base(self) -> Base:
        """The base of the other method."""
        return self.learned.base

    @property
    def stored_base(self) -> Base:
        """That of the other method."""
        return self.learned.stored_base

    @property
    def adapter(self) -> AdapterWeights | None:
        """That of the other method."""
        return self.learned.adapter

    @property
    def trained(self) -> bool:
        """Whether the other method trained it."""
        return self.learned.trained

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the outputs of the other method, [M,K]."""
        return self.learned.outputs(inputs)

    def members(self, inputs: Inputs) -> Sequence[Outputs]:
        """Return those of the other method."""
        return self.learned.members(inputs)

    @property
    def remarks(self) -> Sequence[str]:
        """Those of the other method."""
        return self.learned.remarks

    def arrays(self) -> Arrays:
        """Return the arrays of the other method."""
        return self.learned.arrays()


class ThenConfig(MethodConfig):
    """A method that prepares a base or records, after which the method `then` learns the labels."""

    then: MethodConfig
    """The method that learns the labels; its name, or its name and settings."""

    @field_validator("then", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def weighs_classes(self) -> bool:  # type: ignore[override]
        """As the method that learns the labels."""
        return self.then.weighs_classes

    @property
    def by_neighbours(self) -> bool:  # type: ignore[override]
        """As the method that learns the labels."""
        return self.then.by_neighbours

    @property
    def generates(self) -> bool:  # type: ignore[override]
        """As the method that learns the labels."""
        return self.then.generates

    def joins(self, base: Base, modality: str, paired: bool, target: Target) -> bool:
        """As the method that learns the labels."""
        return self.then.joins(base, modality, paired, target)
