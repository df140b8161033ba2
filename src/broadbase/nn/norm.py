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


class LayerNormConfig(NormConfig):
    """Layer norm with gain and bias (Ba et al. 2016)."""

    name: Literal["layer"] = "layer"
    eps: float = 1e-5

    def build(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, eps=self.eps)
