"""The connector slot: what carries the states of one tower to another.

Legend: B rows, N tokens of the source, M tokens that the target reads, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.loss import AuxLosses
from broadbase.core.view import Segment, positions
from broadbase.nn.feedforward import ACTIVATIONS, Activation


class ConnectorConfig(Slot):
    """How a tower reads the stream of another: a `StreamSegment` names the stream."""

    package: ClassVar[str] = "nn"
    source: str
    """The tower whose states are carried over."""
    target: str
    """The tower that reads them."""

    @abstractmethod
    def build(self, source: int, target: int) -> Connector:
        """Build the connector between towers of these widths."""


class Connector(nn.Module, ABC):
    """States of one tower [B,N,source] to inputs of another [B,M,target].

    A connector may leave out tokens: the segment that reads the stream has the M that come out.
    """

    layers: tuple[int, ...] = ()
    """The layers of the source whose states are concatenated, from 1; none: its last states."""

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        """The coefficients of the auxiliary losses that `forward` returns, by name."""
        return {}

    @abstractmethod
    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> tuple[Tensor, AuxLosses]:
        """Return what the target tower reads, and the auxiliary losses, [B] each.

        `document` [B,M] is -1 at padding, which has no part in the losses; None: no padding.
        """

    def output_segment(self, source: Segment) -> Segment:
        """Return the tokens that come out of those of `source` [B,N].

        Their positions, from 0, are those in a text that they are inserted into.
        """
        return source

    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """Take up the statistics of a complete step; `add` sums a tensor over the ranks.

        By default there are none.
        """


class LinearConfig(ConnectorConfig):
    """One linear map (He et al. 2022; LLaVA's first)."""

    name: Literal["linear"] = "linear"

    def build(self, source: int, target: int) -> Connector:
        """Build the linear map between towers of these widths."""
        return Linear(source, target)


class Linear(Connector):
    """weight x + bias."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        linear = nn.Linear(source, target)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> tuple[Tensor, AuxLosses]:
        """Return the map of states [B,N,source], [B,N,target], and no auxiliary loss."""
        return F.linear(x_BND, self.weight, self.bias), {}


class MLPConnectorConfig(ConnectorConfig):
    """Linear, activation, linear (LLaVA-1.5; 2310.03744)."""

    name: Literal["mlp"] = "mlp"
    activation: Activation = "gelu"
    """The activation between the linear maps."""
    bias: bool = True
    """Whether the linear maps have a bias."""
    skip: Annotated[int, Field(ge=0)] = 0
    """How many tokens at the start are left out; 1 leaves out ViT's class token."""
    layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """The layers of the source, from 1, whose states are concatenated; none: its last states."""

    def build(self, source: int, target: int) -> Connector:
        """Build the two linear maps between towers of these widths."""
        return MLPConnector(self, source, target)


class MLPConnector(Connector):
    """second(activation(first(x))) of all tokens but the first `skip`."""

    def __init__(self, config: MLPConnectorConfig, source: int, target: int) -> None:
        super().__init__()
        self.skip, self.activation = config.skip, ACTIVATIONS[config.activation]
        self.layers = config.layers
        self.first = nn.Linear(source * max(1, len(self.layers)), target, bias=config.bias)
        self.second = nn.Linear(target, target, bias=config.bias)

    def output_segment(self, source: Segment) -> Segment:
        """Return a line of tokens, whatever grid they had."""
        kept = source.map(lambda tensor: tensor[:, self.skip :])
        B, N = kept.position.shape[:2]
        return replace(kept, position=positions((N,)).to(kept.position.device).expand(B, -1, -1))

    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> tuple[Tensor, AuxLosses]:
        """Return vectors [B,N-skip,target] of states [B,N,source], and no auxiliary loss."""
        return self.second(self.activation(self.first(x_BND[:, self.skip :]))), {}
