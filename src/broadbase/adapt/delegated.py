"""What another method learned, for a method that chooses or prepares it.

Legend: M records, K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted
from broadbase.adapt.target import Outputs
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
