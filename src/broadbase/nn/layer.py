"""What every part of a layer is given, and what it returns.

Legend: B batch, T tokens, S tokens of another stream, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from broadbase.core.loss import AuxLosses
from broadbase.nn.cache import LayerCache
from broadbase.nn.patterns import Mask
from broadbase.nn.positions import Rotation


@dataclass(frozen=True)
class Context:
    """The tokens of another stream that this one attends to."""

    x: Tensor  # [B,S,D]
    mask: Mask


@dataclass(frozen=True)
class LayerInputs:
    """What a layer is given besides the residual stream.

    A part reads the fields that it needs. A tower fills one record for the layers of one span.
    """

    mask: Mask  # which tokens self-attention may read
    rotation: Rotation | None = None  # of queries and keys
    cache: LayerCache | None = None  # keys and values of the tokens so far, when generating
    context: Context | None = None  # what cross-attention reads
    condition: Tensor | None = None  # [B,T,D] or [B,1,D]: noise level, class; for adaptive norms
    real: Tensor | None = None  # [B,T] bool: tokens that are not padding; None: all


class Branch(nn.Module, ABC):
    """What a residual adds to the stream: attention, cross-attention or a feed-forward."""

    keeps_rows: ClassVar[bool] = True
    """Whether each row of what its linear maps read is a row of the batch."""

    @abstractmethod
    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the update [B,T,D] and the auxiliary losses by name, [B] each."""


class TokenWise(Branch):
    """A branch that computes each token by itself and has no auxiliary loss."""

    @abstractmethod
    def update(self, x: Tensor) -> Tensor:
        """Return the update of tokens [...,D], of the same shape."""

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the update and no auxiliary loss."""
        return self.update(x_BTD), {}


class Residual(nn.Module, ABC):
    """A residual branch with its norms and gains."""

    @abstractmethod
    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream [B,T,D] after the branch, and the branch's auxiliary losses."""
