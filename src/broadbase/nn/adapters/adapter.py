"""The slot of adapters: few numbers that change what a frozen linear map computes.

Every kind is an `Update` of the map W x + b, and so all kinds are used, merged and mixed alike:

    y = gain * (W (inputs * x) + b + up down x) + shift

Legend: F outputs, K inputs, R rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.nn.laws import Initialised

MAPS = ("q", "k", "v", "out", "gate", "up", "down")  # of attention and of feed-forwards


@dataclass(frozen=True)
class Update:
    """What an adapter makes of one linear map; None changes nothing.

    `down` is [R,K], `up` [F,R], `inputs` [K], `gain` and `shift` [F]. Where each row of a batch has
    its own, they are [B,R,K], [B,F,R], [B,1,K] and [B,1,F].
    """

    down: Tensor | None = None
    up: Tensor | None = None
    inputs: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None

    def apply(self, linear: Callable[[Tensor], Tensor], x: Tensor, low: Tensor) -> Tensor:
        """Return y [...,F] of x [...,K]; `low` is x as the low-rank product reads it."""
        y = linear(x if self.inputs is None else x * self.inputs)
        if self.down is not None and self.up is not None:
            y = y + low @ self.down.mT @ self.up.mT
        y = y if self.gain is None else y * self.gain
        return y if self.shift is None else y + self.shift

    def merged(self, linear: nn.Linear) -> nn.Linear:
        """Return a map with weight and bias of its own that computes y."""
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach()
        new = weight if self.inputs is None else weight * self.inputs
        if self.down is not None and self.up is not None:
            new = new + self.up @ self.down
        if self.gain is not None:
            new = new * self.gain[:, None]
            bias = None if bias is None else bias * self.gain
        if self.shift is not None:
            bias = self.shift if bias is None else bias + self.shift
        outputs, inputs = new.shape
        result = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        result.weight = nn.Parameter(new.to(weight.dtype), requires_grad=False)
        if bias is not None:
            result.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
        return result

    def detached(self) -> Update:
        """Return the same numbers without their graph."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Update(**{k: None if v is None else v.detach() for k, v in values.items()})


class Adapter(nn.Module, Initialised, ABC):
    """What is learned for one linear map."""

    dropout: float = 0.0

    def start(self, linear: nn.Linear) -> None:
        """Set what begins as a function of the map's weight, after the rest is initialised."""

    @abstractmethod
    def update(self, linear: nn.Linear) -> Update:
        """Return what the adapter makes of a map of this weight and bias."""


class AdapterConfig(Slot):
    """A kind of adapter, and which maps have one."""

    package: ClassVar[str] = "nn.adapters"
    usual: ClassVar[tuple[str, ...]] = MAPS
    """The names of the maps that this kind adapts where nobody names any."""
    targets: tuple[str, ...] | None = None
    """The names of the linear maps that are adapted, such as q and v; null: those that are usual
    for the kind."""

    @abstractmethod
    def build(self, name: str, linear: nn.Linear) -> Adapter:
        """Build the adapter of the map `name`, which `linear` is."""


@dataclass(frozen=True)
class AdapterWeights:
    """What was learned for the maps of one base, apart from it."""

    config: AdapterConfig
    tensors: Mapping[str, Tensor]  # by the path of the map in the model, and the parameter's name

    @property
    def maps(self) -> tuple[str, ...]:
        """The paths of the maps that are adapted, in order."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.tensors))
