"""The feed-forward slot. Legend: D width."""

from __future__ import annotations

from abc import abstractmethod
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
from broadbase.nn.layer import Branch, TokenWise
from broadbase.nn.tensor_parallel import Splits, TensorParallel

Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_quick", "relu"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP
    "relu": F.relu,
}


class FeedForwardConfig(Slot):
    """What is computed of each token by itself."""

    package: ClassVar[str] = "nn"
    hidden_width: Annotated[int, Field(ge=1)]
    """The width of the hidden layer."""

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        """The coefficients of the auxiliary losses that the module returns, by name."""
        return {}

    @abstractmethod
    def build(self, width: int) -> Branch:
        """Build the module for a tower of `width`."""


class MLPConfig(FeedForwardConfig):
    """Two linear maps with an activation between (Vaswani et al. 2017, eq. 2)."""

    name: Literal["mlp"] = "mlp"
    activation: Activation = "gelu"
    """The activation between the linear maps."""
    bias: bool = True
    """Whether the linear maps have a bias."""

    def build(self, width: int) -> TokenWise:
        """Build the module for a tower of `width`."""
        return MLP(self, width)


class MLP(TokenWise, TensorParallel):
    """down(activation(up(x)))."""

    tp_plan: ClassVar[Splits] = {"up": "outputs", "down": "inputs"}

    def __init__(self, config: MLPConfig, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.down = ResidualLinear(config.hidden_width, width, bias=config.bias)

    def update(self, x: Tensor) -> Tensor:
        """Return the update of tokens [...,D], of the same shape."""
        return self.down(self.activation(self.up(x)))  # type: ignore[no-any-return]


class GatedConfig(FeedForwardConfig):
    """A gated linear unit; with silu this is SwiGLU (Shazeer 2020, eq. 6)."""

    name: Literal["gated"] = "gated"
    activation: Activation = "silu"
    """The activation of the gate; silu makes it SwiGLU, gelu GEGLU."""
    bias: bool = False
    """Whether the linear maps have a bias."""

    def build(self, width: int) -> TokenWise:
        """Build the module for a tower of `width`."""
        return Gated(self, width)


class Gated(FusedLinears, TokenWise, TensorParallel):
    """down(activation(gate(x)) * up(x))."""

    fused_names = ("gate", "up")
    tp_plan: ClassVar[Splits] = {"gate": "outputs", "up": "outputs", "down": "inputs"}

    def __init__(self, config: GatedConfig, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gate = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.up = nn.Linear(width, config.hidden_width, bias=config.bias)
        self.down = ResidualLinear(config.hidden_width, width, bias=config.bias)

    def update(self, x: Tensor) -> Tensor:
        """Return the update of tokens [...,D], of the same shape."""
        gate, up = self.project(x)
        product = gated(gate, up, self.activation)
        with recompute_product(product):
            return self.down(product)  # type: ignore[no-any-return]


def gated(gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Return activation(gate) * up; a compiler decides by itself what to keep for the backward."""
    if torch.compiler.is_compiling() or not gate.requires_grad:
        return activation(gate) * up
    return GatedProduct.apply(gate, up, activation)  # type: ignore[no-any-return, no-untyped-call]


class GatedProduct(torch.autograd.Function):
    """activation(gate) * up, whose backward computes the activation again rather than keeps it."""

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return activation(gate) * up; both have one shape."""
        ctx.save_for_backward(gate, up)
        ctx.activation, ctx.recomputed = activation, None
        return activation(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of gate and up."""
        gate, up, active = ctx.recomputed or _recompute(ctx)
        ctx.recomputed = None
        (grad_gate,) = torch.autograd.grad(active, gate, grad_output * up)
        return grad_gate, grad_output * active.detach(), None


def _recompute(ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gate without its graph, the other factor, and the activation of the gate."""
    gate, up = ctx.saved_tensors  # can be read once where a block is recomputed
    with torch.enable_grad():
        gate = gate.detach().requires_grad_()
        return gate, up, ctx.activation(gate)


def recompute_product(product: Tensor) -> AbstractContextManager[object]:
    """Return a context in which no other function keeps a product of `gated` for its backward.

    The product is computed again from its factors instead.
    """
    node: Any = product.grad_fn
    if not hasattr(node, "recomputed") or product.device.type == "meta":
        return nullcontext()
    same = product.data_ptr(), product.numel()

    def pack(kept: Tensor) -> Tensor | torch.Size:
        return kept.shape if (kept.data_ptr(), kept.numel()) == same else kept

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        _, up, active = node.recomputed = _recompute(node)
        product: Tensor = active.detach() * up
        return product.view(kept)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class ClippedConfig(FeedForwardConfig):
    """A gated unit whose halves are clipped, with biases (gpt-oss; 2508.10925)."""

    name: Literal["clipped"] = "clipped"
    slope: float = 1.702
    """The factor inside the sigmoid; 1.702 makes the product with the input near to gelu."""
    limit: Annotated[float, Field(gt=0)] = 7.0
    """The bound at which the halves of the unit are clipped."""

    def build(self, width: int) -> TokenWise:
        """Build the module for a tower of `width`."""
        return Clipped(self, width)


class Clipped(FusedLinears, TokenWise, TensorParallel):
    """down((1 + u) * g * sigmoid(slope * g)), g = min(gate(x), limit), u = up(x) in +- limit."""

    fused_names = ("gate", "up")
    tp_plan: ClassVar[Splits] = {"gate": "outputs", "up": "outputs", "down": "inputs"}

    def __init__(self, config: ClippedConfig, width: int) -> None:
        super().__init__()
        self.slope, self.limit = config.slope, config.limit
        self.gate = nn.Linear(width, config.hidden_width)
        self.up = nn.Linear(width, config.hidden_width)
        self.down = ResidualLinear(config.hidden_width, width)

    def update(self, x: Tensor) -> Tensor:
        """Return the update of tokens [...,D], of the same shape."""
        gate, up = self.project(x)
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return self.down((1 + up) * gate * torch.sigmoid(self.slope * gate))  # type: ignore[no-any-return]
