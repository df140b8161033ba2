"""Joint Spaces: what towers of different modalities meet in.

Legend: B rows, D width, K dimensions.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import Choose
from broadbase.nn.spaces import DirectConfig, HeadConfig


class JointConfig(Config):
    """Unit vectors; one side of a pair also carries the scale and bias of their dot product."""

    dimensions: Annotated[int, Field(ge=1)] | None = 64  # None: the states as they are
    scale: Annotated[float, Field(gt=0)] | None = None  # to begin with; CLIP: 1 / 0.07, SigLIP: 10
    bias: float | None = None  # beside a scale, to begin with; SigLIP: -log(B - 1) at B pairs
    largest: Annotated[float, Field(gt=0)] | None = 100.0  # the scale (Radford et al. 2021, 2.5)
    shift: bool = False  # whether the projection has a bias
    head: HeadConfig = DirectConfig()  # before it: what makes one vector of all places, for one

    def build(self, width: int) -> Joint:
        return Joint(self, width)


class Joint(nn.Module):
    """A projection to K dimensions and one more, such that a dot product is a logit.

    The one side gives (u, 1), the other (exp(s) v, b), u and v of length 1: together
    exp(s) u.v + b. So an objective needs no parameters.
    """

    def __init__(self, config: JointConfig, width: int) -> None:
        super().__init__()
        self.width, self.config = width, config
        self.head = config.head.build(width)
        self.project: nn.Module = nn.Identity()
        if config.dimensions is not None:
            self.project = nn.Linear(width, config.dimensions, bias=config.shift)
        self.log_scale = nn.Parameter(torch.zeros(1)) if config.scale else None
        biased = config.scale is not None and config.bias is not None
        self.bias = nn.Parameter(torch.zeros(1)) if biased else None

    def law(self, name: str) -> float:
        """No chance in scale and bias."""
        return 0.0

    def predict(self, x: Tensor) -> Tensor:
        """Pooled states [B,1,D], or all [B,T,D] where the head pools, to [B,1,K+1]."""
        unit = F.normalize(self.project(self.head(x)), dim=-1)
        one = torch.ones_like(unit[..., :1])
        if self.log_scale is None or self.config.scale is None:
            return torch.cat([unit, one], dim=-1)
        scale = (self.log_scale + math.log(self.config.scale)).exp()
        scale = scale if self.config.largest is None else scale.clamp(max=self.config.largest)
        bias = 0.0 if self.bias is None else self.bias + (self.config.bias or 0.0)
        return torch.cat([scale * unit, bias * one], dim=-1)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        raise TypeError("a joint Space has no values to embed")

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        raise TypeError("a joint Space is scored in pairs, by a contrastive objective")

    def sample(self, prediction: Tensor, choose: Choose) -> Tensor:
        """The vector itself."""
        return prediction
