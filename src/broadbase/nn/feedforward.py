"""The feed-forward slot. Legend: B batch, T places, D width, F hidden width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from broadbase.core.config import Slot
from broadbase.nn.fused import FusedLinears
from broadbase.nn.laws import ResidualLinear
from broadbase.nn.tensor_parallel import Splits

Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_quick", "relu"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP
    "relu": F.relu,
}


class FeedForwardConfig(Slot):
    """What each place computes by itself."""

    package: ClassVar[str] = "nn"
    hidden_width: Annotated[int, Field(ge=1)]

    @property
    def penalties(self) -> Mapping[str, float]:
        """What the module's `charges(real)` holds after a forward, and its part in the loss."""
        return {}

    def build(self, width: int) -> nn.Module:
        """The module [B,T,D] -> [B,T,D]."""
        raise TypeError(f"{type(self).__name__} has no build()")


class MLPConfig(FeedForwardConfig):
    """Two linear maps with an activation between (Vaswani et al. 2017, eq. 2)."""

    name: Literal["mlp"] = "mlp"
    activation: Activation = "gelu"
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        return MLP(self, width)


class MLP(nn.Module):
    """down(activation(up(x)))."""

    split: ClassVar[Splits] = {"up": "outputs", "down": "inputs"}

    def __init__(self, config: MLPConfig, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.down = ResidualLinear(config.hidden_width, width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_BTD)))  # type: ignore[no-any-return]


class GatedConfig(FeedForwardConfig):
    """A gated linear unit; with silu this is SwiGLU (Shazeer 2020, eq. 6)."""

    name: Literal["gated"] = "gated"
    activation: Activation = "silu"
    bias: bool = False

    def build(self, width: int) -> nn.Module:
        return Gated(self, width)


class Gated(FusedLinears):
    """down(activation(gate(x)) * up(x))."""

    fused_names = ("gate", "up")
    split: ClassVar[Splits] = {"gate": "outputs", "up": "outputs", "down": "inputs"}

    def __init__(self, config: GatedConfig, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gate = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.up = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.down = ResidualLinear(config.hidden_width, width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTF, up_BTF = self.project(x_BTD)
        hidden_BTF = gated(gate_BTF, up_BTF, self.activation)
        with forgetting(hidden_BTF):
            return self.down(hidden_BTF)  # type: ignore[no-any-return]


def gated(gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """activation(gate) * up; a compiler finds out by itself what to keep for the backward."""
    if torch.compiler.is_compiling() or not gate.requires_grad:
        return activation(gate) * up
    return GatedProduct.apply(gate, up, activation)  # type: ignore[no-any-return, no-untyped-call]


class GatedProduct(torch.autograd.Function):
    """activation(gate) * up, where the activation is computed again rather than kept."""

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation, ctx.again = activation, None
        return activation(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, told: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up, active = ctx.again or _again(ctx)
        ctx.again = None
        (to_gate,) = torch.autograd.grad(active, gate, told * up)
        return to_gate, told * active.detach(), None


def _again(ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Both factors' inputs, the gate apart from its graph, and its activation."""
    gate, up = ctx.saved_tensors  # can be read once where a block is recomputed
    with torch.enable_grad():
        gate = gate.detach().requires_grad_()
        return gate, up, ctx.activation(gate)


def forgetting(product: Tensor) -> AbstractContextManager[object]:
    """Within, what keeps a product of `gated` for its backward has it computed again instead."""
    node: Any = product.grad_fn
    if not hasattr(node, "again") or product.device.type == "meta":
        return nullcontext()
    same = product.data_ptr(), product.numel()

    def pack(kept: Tensor) -> Tensor | torch.Size:
        return kept.shape if (kept.data_ptr(), kept.numel()) == same else kept

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        _, up, active = node.again = _again(node)
        product: Tensor = active.detach() * up
        return product.view(kept)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class ClippedConfig(FeedForwardConfig):
    """A gated unit whose halves are clipped, with biases (gpt-oss; 2508.10925)."""

    name: Literal["clipped"] = "clipped"
    slope: float = 1.702  # of the sigmoid
    limit: Annotated[float, Field(gt=0)] = 7.0

    def build(self, width: int) -> nn.Module:
        return Clipped(self, width)


class Clipped(FusedLinears):
    """down((1 + u) * g * sigmoid(slope * g)), g = min(gate(x), limit), u = up(x) in +- limit."""

    fused_names = ("gate", "up")
    split: ClassVar[Splits] = {"gate": "outputs", "up": "outputs", "down": "inputs"}

    def __init__(self, config: ClippedConfig, width: int) -> None:
        super().__init__()
        self.slope, self.limit = config.slope, config.limit
        self.gate = nn.Linear(width, config.hidden_width)
        self.up = nn.Linear(width, config.hidden_width)
        self.down = ResidualLinear(config.hidden_width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTF, up_BTF = self.project(x_BTD)
        gate_BTF = gate_BTF.clamp(max=self.limit)
        up_BTF = up_BTF.clamp(-self.limit, self.limit)
        hidden_BTF = (1 + up_BTF) * gate_BTF * torch.sigmoid(self.slope * gate_BTF)
        return self.down(hidden_BTF)  # type: ignore[no-any-return]
