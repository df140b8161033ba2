"""Linear maps for use on a CPU, not for training: weights laid out for few rows, or in 8 bits.

Legend: M rows, K inputs, F outputs.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol, TypeVar, cast, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from broadbase.core.errors import ConfigError
from broadbase.nn.fused import FusedLinears
from broadbase.nn.norm import RMSNorm

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TINY = 1e-12  # stands for 0 where one divides
SHARE = 4  # a model is packed where its weights are less than this part of the memory


class FrozenLinear(nn.Module):
    """A map whose weight is laid out for good, so that copies share it; it has no hooks."""

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the map."""
        return self.forward(x)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenLinear:
        """Return itself."""
        return self

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ConfigError("these weights are for use: save the base that they were made of")


class PackedLinear(FrozenLinear):
    """W x + b with W in oneDNN's blocks: three times as fast as F.linear for one row or a few."""

    def __init__(self, linear: nn.Linear, rows: int = 1) -> None:
        """Convert the weight of a linear map, in blocks that suit a product of so many rows."""
        super().__init__()
        weight_FK = linear.weight.detach()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight_FK, rows)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Map [...,K] to [...,F]."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


class Int8Linear(FrozenLinear):
    """W x + b in products of 8-bit numbers: W with a scale for each output, x for each row.

    Scales are the largest magnitude / 127 (Dettmers et al. 2022, 2.1: vector-wise), so that rows
    do not depend on one another. W is rounded to fewer numbers where the processor would cut off
    their sums (`weight_levels`).
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Convert the weight of a linear map."""
        super().__init__()
        weight_FK = linear.weight.detach().float()
        most_F = weight_FK.abs().amax(dim=1).clamp(min=TINY)
        levels = weight_levels()
        integer_FK = (weight_FK * (levels / most_F).unsqueeze(1)).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(integer_FK, None)
        self.scale_F = most_F / (127 * levels)
        self.zero_F = torch.zeros(len(most_F), dtype=torch.int32)
        self.middle = torch.tensor(128.5)  # of 0 to 255, and a half that is cut off to round
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Map [...,K] to [...,F]."""
        x_MK = x.flatten(0, -2).float()
        most_M1 = torch.linalg.vector_norm(x_MK, torch.inf, dim=1, keepdim=True).clamp_(min=TINY)
        integer_MK = torch.addcdiv(self.middle, x_MK, most_M1, value=127).to(torch.uint8)
        y_MF = torch.ops.onednn.qlinear_pointwise(
            *(integer_MK, 1.0, 128, self.weight, self.scale_F, self.zero_F, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        ).mul_(most_M1)
        y_MF = y_MF if self.bias is None else y_MF.add_(self.bias)
        return cast(Tensor, y_MF.to(x.dtype).unflatten(0, x.shape[:-1]))


@cache
def weight_levels() -> int:
    """Return the largest integer that weights are rounded to: 127, or 63 on older processors.

    Without VNNI a processor adds two products of 8-bit numbers in 16 bits and cuts the sum off:
    2 * 255 * 127 is too large for them, 2 * 255 * 63 is not.
    """
    weight_FK = torch.ops.onednn.qlinear_prepack(torch.full((1, 64), 127, dtype=torch.int8), None)
    largest_MK = torch.full((1, 64), 255, dtype=torch.uint8)
    one_F, zero_F = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    product = torch.ops.onednn.qlinear_pointwise(
        *(largest_MK, 1.0, 0, weight_FK, one_F, zero_F, None),
        *(1.0, 0, torch.float32, "none", [], ""),
    )
    return 127 if float(product) == 64 * 255 * 127 else 63


class FastRMSNorm(FrozenLinear):
    """RMSNorm in half of the operations: x gain sqrt(D) / hypot(|x|, sqrt(D eps)), D its width."""

    def __init__(self, norm: RMSNorm) -> None:
        """Convert the gain of a norm."""
        super().__init__()
        assert norm.eps is not None
        width = norm.weight.numel()
        self.floor = torch.tensor(math.sqrt(width * norm.eps))
        self.gain_D = norm.weight.detach() * math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [...,D] to [...,D]."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x / torch.hypot(length, self.floor)).mul_(self.gain_D)


@runtime_checkable
class SupportsUntie(Protocol):
    """A module whose output matrix may be another's weight."""

    def untie(self) -> None:
        """Give it a linear map of its own, of the same numbers."""
        ...


def eight_bit(model: AnyModule) -> AnyModule:
    """Return the model with all linear maps in 8 bits; other parameters are shared.

    ConfigError on another device than a CPU.
    """
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise ConfigError("8-bit weights are computed with on CPUs only; use --device cpu")
    return _swapped(model, Int8Linear)


def packed(model: AnyModule, rows: int = 1) -> AnyModule:
    """Return the model with its linear maps packed for so many rows, or itself if that cannot be.

    Made once for a model and these rows, as long as it and its parameters stay as they are: a copy
    of its weights. Only of fp32 on CPUs, and of less than a quarter of the memory.
    """
    parameters = [*model.parameters()]
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    if not plain or not torch._C._has_mkldnn or size > _memory() / SHARE:
        return model
    state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]
    kept = _PACKED.get(model)
    if kept is None or kept[0] != state:
        kept = _PACKED[model] = state, {}
    if rows not in kept[1]:
        kept[1][rows] = _swapped(model, partial(PackedLinear, rows=rows))
    return cast(AnyModule, kept[1][rows])


_PACKED: WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], dict[int, nn.Module]]]
_PACKED = WeakKeyDictionary()


def _swapped(model: AnyModule, swap: Callable[[nn.Linear], nn.Module]) -> AnyModule:
    """Return a copy that shares its parameters, with other linear maps, packed RMSNorms, and one
    map for those of one input."""
    twin = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    for module in [*twin.modules()]:
        if isinstance(module, SupportsUntie):
            module.untie()
        if isinstance(module, FusedLinears) and module.can_fuse:
            module.fuse()
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and type(child).forward is nn.Linear.forward:
                setattr(module, name, swap(child))  # connectors are more than a linear map
            if type(child) is RMSNorm and child.weight.dtype == torch.float32:
                setattr(module, name, FastRMSNorm(child))
    return twin


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
