"""How parameters start: each layer declares its own law; one that declares none has the default.

`model/initialise.py` lists the law of every layer with its source.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Law:
    """A normal distribution; of deviation 0, a constant."""

    std: float = 0.0
    mean: float = 0.0


NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
)
ZERO, ONE, SMALL = Law(), Law(mean=1.0), Law(std=0.02)


class Initialised(ABC):
    """The base of every module that declares how its own parameters start."""

    @abstractmethod
    def init_law(self, name: str) -> Law:
        """Return the law of this module's parameter `name`; children declare their own."""


class ResidualLinear(nn.Linear, Initialised):
    """The linear map that ends a residual branch: its output is added to a stream.

    The owner of the stream writes how many branches add to it into `branches`.
    """

    branches = 1

    def init_law(self, name: str) -> Law:
        """Shrink by the root of the number of branches (Radford et al. 2019, 2.3)."""
        if name == "bias":
            return ZERO
        return Law(std=1 / math.sqrt(self.branches) / math.sqrt(self.in_features))


class OutputLinear(nn.Linear, Initialised):
    """The linear map from states to predictions, all of which start out about equally likely."""

    def init_law(self, name: str) -> Law:
        """Start small, whatever the width."""
        return ZERO if name == "bias" else SMALL


def law(module: nn.Module, name: str) -> Law:
    """Return the law of a module's parameter: the declared one, or the default.

    The default: norms have gain 1; biases are 0; embeddings and single vectors are small; any other
    weight is a map [outputs, inputs, ...] of deviation 1 / sqrt(fan-in).
    """
    if isinstance(module, Initialised):
        return module.init_law(name)
    parameter = module.get_parameter(name)
    if name.endswith("bias"):
        return ZERO
    if isinstance(module, NORMS):
        return ONE
    if isinstance(module, nn.Embedding) or parameter.ndim < 2:
        return SMALL
    return Law(std=1 / math.sqrt(parameter[0].numel()))
