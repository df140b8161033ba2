"""The norm slot."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from broadbase.core.config import Choice


class NormConfig(Choice):
    """Normalises the last axis of [..., width]."""

    package: ClassVar[str] = "nn"

    def build(self, width: int) -> nn.Module:
        """The norm as a module, shape-preserving."""
        raise TypeError(f"{type(self).__name__} has no build()")


class RMSNormConfig(NormConfig):
    """Root-mean-square norm with a gain (Zhang & Sennrich 2019, eq. 4)."""

    name: Literal["rms"] = "rms"
    eps: float = 1e-5

    def build(self, width: int) -> nn.Module:
        return RMSNorm(width, eps=self.eps)


class RMSNorm(nn.RMSNorm):
    """PyTorch's, with the gain in the input's type: under autocast the fused kernel wants both."""

    def forward(self, x: Tensor) -> Tensor:
        gain = self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, gain, self.eps)


class OffsetRMSNormConfig(NormConfig):
    """Root-mean-square norm whose gain is 1 + weight (Gemma), so that decay draws it to 1."""

    name: Literal["rms_offset"] = "rms_offset"
    eps: float = 1e-6

    def build(self, width: int) -> nn.Module:
        return OffsetRMSNorm(width, eps=self.eps)


class OffsetRMSNorm(nn.RMSNorm):
    """Computed in fp32 or better, gain included."""

    def law(self, name: str) -> float:
        """The weight starts at 0."""
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.element_size() < 4 else x
        return F.rms_norm(wide, self.normalized_shape, 1 + self.weight.to(wide.dtype), self.eps).to(
            x.dtype
        )


class LayerNormConfig(NormConfig):
    """Layer norm with a gain, and a bias unless told otherwise (Ba et al. 2016)."""

    name: Literal["layer"] = "layer"
    eps: float = 1e-5
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, eps=self.eps, bias=self.bias)


class NoNormConfig(NormConfig):
    """Nothing."""

    name: Literal["none"] = "none"

    def build(self, width: int) -> nn.Module:
        return nn.Identity()
