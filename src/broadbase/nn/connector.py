"""The connector slot: what carries the states of one tower to another.

Legend: B rows, N places, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.view import Segment, positions
from broadbase.nn.feedforward import ACTIVATIONS, Activation


class ConnectorConfig(Slot):
    """How a tower reads the stream of another, as a segment `@stream`."""

    package: ClassVar[str] = "nn"
    source: str  # the stream's tower
    target: str  # the tower it feeds

    def build(self, source: int, target: int) -> Any:
        """The Connector (an nn.Module) between towers of these widths."""
        raise TypeError(f"{type(self).__name__} has no build()")


class Connector:
    """States [B,N,source] to [B,N,target]; by default it charges nothing and keeps no statistics.

    One may leave out places: the segment that reads the stream has as many as come out. `forward`
    is also given which of these count: document [B,N], -1 for padding; None: all.
    """

    penalties: Mapping[str, float] = {}  # what `charges` will hold, and its part in the loss
    layers: tuple[int, ...] = ()  # of the source, whose states are joined; none: its last states

    def read_layers(self, given: Segment) -> Segment:
        """`given` [B,N], which the stream is made of, as the places that come out: where these
        stand, from 0, in a text that they are read in."""
        return given

    def charges(self) -> Mapping[str, Tensor]:
        """Of the last forward: the total over the places that count, [B] each."""
        return {}

    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """Take up the statistics of a whole step; `add` sums a tensor over the ranks."""


class LinearConfig(ConnectorConfig):
    """One linear map (He et al. 2022; LLaVA's first)."""

    name: Literal["linear"] = "linear"

    def build(self, source: int, target: int) -> nn.Module:
        return Linear(source, target)


class Linear(nn.Linear, Connector):
    """weight x + bias."""

    def forward(self, input: Tensor, document: Tensor | None = None) -> Tensor:
        return super().forward(input)


class MLPConnectorConfig(ConnectorConfig):
    """Linear, activation, linear (LLaVA-1.5; 2310.03744)."""

    name: Literal["mlp"] = "mlp"
    activation: Activation = "gelu"
    bias: bool = True
    skip: Annotated[int, Field(ge=0)] = 0  # first places that are left out (ViT's class token)
    layers: tuple[Annotated[int, Field(ge=1)], ...] = ()  # whose states are joined, from 1

    def build(self, source: int, target: int) -> nn.Module:
        return MLPConnector(self, source, target)


class MLPConnector(nn.Module, Connector):
    """second(activation(first(x))), of all places but the first `skip`."""

    def __init__(self, config: MLPConnectorConfig, source: int, target: int) -> None:
        super().__init__()
        self.skip, self.activation = config.skip, ACTIVATIONS[config.activation]
        self.layers = config.layers
        self.first = nn.Linear(source * max(1, len(self.layers)), target, bias=config.bias)
        self.second = nn.Linear(target, target, bias=config.bias)

    def seen(self, given: Segment) -> Segment:
        """A line of places, whatever grid they had."""
        left = given.map(lambda tensor: tensor[:, self.skip :])
        B, N = left.position.shape[:2]
        return replace(left, position=positions((N,)).to(left.position.device).expand(B, -1, -1))

    def forward(self, x_BND: Tensor, document: Tensor | None = None) -> Tensor:
        y_BND: Tensor = self.second(self.activation(self.first(x_BND[:, self.skip :])))
        return y_BND
