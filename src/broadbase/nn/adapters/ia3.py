"""IA3: a factor for each output of a map, or for each of its inputs (Liu et al. 2022, 3.3)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from broadbase.nn.adapters.adapter import Adapter, AdapterConfig, Update
from broadbase.nn.laws import ONE, Law


class IA3Config(AdapterConfig):
    """Learned factors of keys, values and hidden channels of feed-forwards."""

    name: Literal["ia3"] = "ia3"
    usual: ClassVar[tuple[str, ...]] = ("k", "v", "down")
    inputs: tuple[str, ...] = ("down",)
    """The names of the maps whose inputs have the factors; the others have them at the outputs."""

    def build(self, name: str, linear: nn.Linear) -> Adapter:
        """Build the adapter of a map."""
        return IA3(linear, name in self.inputs)


class IA3(Adapter):
    """The factors, which start at 1."""

    def __init__(self, linear: nn.Linear, of_inputs: bool) -> None:
        super().__init__()
        self.of_inputs = of_inputs
        size = linear.in_features if of_inputs else linear.out_features
        self.factor = nn.Parameter(torch.empty(size))

    def init_law(self, name: str) -> Law:
        """Start at 1."""
        return ONE

    def update(self, linear: nn.Linear) -> Update:
        """Return the factors, of the inputs or of the outputs with their bias."""
        if self.of_inputs:
            return Update(inputs=self.factor)
        return Update(gain=self.factor)
