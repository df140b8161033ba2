"""The norm slot. Legend: M vectors, D width."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.nn.laws import ZERO, Initialised, Law


class NormConfig(Slot):
    """A norm over the last axis of [...,D]."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the module, which maps [...,width] to the same shape."""


class RMSNormConfig(NormConfig):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019, eq. 4)."""

    name: Literal["rms"] = "rms"
    eps: Annotated[float, Field(gt=0)] = 1e-5
    """What is added to the mean square."""

    def build(self, width: int) -> nn.Module:
        """Build the norm of vectors of `width`."""
        return RMSNorm(width, eps=self.eps)


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm with the gain in the type of the input, as its fused kernel needs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of x [...,D]."""
        return rms_norm(x, self.weight.to(x.dtype), self.eps)


class RootMeanSquare(torch.autograd.Function):
    """gain * x / sqrt(mean(x ** 2) + eps) in few passes over x, for CPUs.

    PyTorch computes the norm and its gradient operation by operation there.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        """Return the norm of x [...,D] with gain [D]."""
        wide = x.float() if x.element_size() < 4 else x
        power = wide.square().mean(dim=-1, keepdim=True)
        inverse = power.add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain_D, inverse)
        normed: Tensor = (wide * inverse).mul_(gain_D)
        return normed.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x and the gain."""
        x, gain_D, inverse = ctx.saved_tensors
        grad, x, gain = (t.to(inverse.dtype) for t in (grads[0], x, gain_D))
        product_MD = (grad * x).flatten(0, -2)
        along = torch.mv(product_MD, gain).view(inverse.shape)
        along.mul_(inverse.pow(3)).div_(x.shape[-1])
        grad_x = (grad * gain).mul_(inverse).addcmul_(x, along, value=-1)
        grad_gain_D = torch.mv(product_MD.T, inverse.flatten())
        return grad_x.to(grads[0].dtype), grad_gain_D.to(gain_D.dtype), None


def rms_norm(x: Tensor, gain: Tensor, eps: float | None) -> Tensor:
    """Return gain * x / sqrt(mean(x ** 2) + eps) over the last axis; eps None: that of the type."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return RootMeanSquare.apply(x, gain, eps)  # type: ignore[no-any-return,no-untyped-call]
    return F.rms_norm(x, gain.shape, gain, eps)


class OffsetRMSNormConfig(NormConfig):
    """Root-mean-square norm whose gain is 1 + weight (Gemma): weight decay draws it to 1."""

    name: Literal["rms_offset"] = "rms_offset"
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """What is added to the mean square."""

    def build(self, width: int) -> nn.Module:
        """Build the norm of vectors of `width`."""
        return OffsetRMSNorm(width, eps=self.eps)


class OffsetRMSNorm(nn.RMSNorm, Initialised):
    """x / sqrt(mean(x ** 2) + eps) * (1 + weight), computed in fp32 or better."""

    def init_law(self, name: str) -> Law:
        """Start with a gain of 1."""
        return ZERO

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of x [...,D]."""
        wide = x.float() if x.element_size() < 4 else x
        return rms_norm(wide, 1 + self.weight.to(wide.dtype), self.eps).to(x.dtype)


class LayerNormConfig(NormConfig):
    """Layer norm with a gain, and with a bias by default (Ba et al. 2016)."""

    name: Literal["layer"] = "layer"
    eps: Annotated[float, Field(gt=0)] = 1e-5
    """What is added to the variance."""
    bias: bool = True
    """Whether the norm has a bias."""

    def build(self, width: int) -> nn.Module:
        """Build the norm of vectors of `width`."""
        return nn.LayerNorm(width, eps=self.eps, bias=self.bias)


class StandardiseConfig(NormConfig):
    """Layer norm without a gain or a bias: mean 0 and variance 1 (Peebles & Xie 2023)."""

    name: Literal["standardise"] = "standardise"
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """What is added to the variance."""

    def build(self, width: int) -> nn.Module:
        """Build the norm of vectors of `width`."""
        return nn.LayerNorm(width, eps=self.eps, elementwise_affine=False)


class NoNormConfig(NormConfig):
    """No norm: vectors stay as they are."""

    name: Literal["none"] = "none"

    def build(self, width: int) -> nn.Module:
        """Build the identity."""
        return nn.Identity()
