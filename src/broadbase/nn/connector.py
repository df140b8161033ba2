"""The connector slot: what carries the states of one tower to another.

Legend: B rows, N places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from broadbase.core.config import Choice


class ConnectorConfig(Choice):
    """How a tower reads the stream of another, as a segment `@stream`."""

    package: ClassVar[str] = "nn"
    source: str  # the stream's tower
    target: str  # the tower it feeds

    def build(self, source: int, target: int) -> Any:
        """The Connector (an nn.Module) between towers of these widths."""
        raise TypeError(f"{type(self).__name__} has no build()")


class Connector:
    """States [B,N,source] to [B,N,target]; by default it charges nothing and keeps no statistics.

    `forward` is also given which places count: document [B,N], -1 for padding; None: all.
    """

    penalties: Mapping[str, float] = {}  # what `charges` will hold, and its part in the loss

    def charges(self) -> Mapping[str, Tensor]:
        """Of the last forward: the total over the places that count, [B] each."""
        return {}

    def settle(self, add: Callable[[Tensor], Tensor]) -> None:
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
