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
from broadbase.core.contracts import SampleFn
from broadbase.nn.laws import Initialised, Law
from broadbase.nn.pooling import MeanConfig, PoolingConfig


class JointConfig(Config):
    """Unit vectors; one side of a pair also carries the scale and bias of their dot product."""

    embedding_dim: Annotated[int, Field(ge=1)] | None = 64  # None: the states as they are
    scale: Annotated[float, Field(gt=0)] | None = None  # to begin with; CLIP: 1 / 0.07, SigLIP: 10
    bias: float | None = None  # beside a scale, to begin with; SigLIP: -log(B - 1) at B pairs
    max_scale: Annotated[float, Field(gt=0)] | None = 100.0  # the scale (Radford et al. 2021, 2.5)
    shift: bool = False  # whether the projection has a bias
    pooling: PoolingConfig = MeanConfig()  # before it

    def build(self, width: int) -> Joint:
        return Joint(self, width)


class Joint(nn.Module, Initialised):
    """A projection to K dimensions and one more, such that a dot product is a logit.

    The one side gives (u, 1), the other (exp(s) v, b), u and v of length 1: together
    exp(s) u.v + b. So an objective needs no parameters.
    """

    log_scale: Tensor | None  # s, [1]
    bias: Tensor | None  # b, [1]

    def __init__(self, config: JointConfig, width: int) -> None:
        super().__init__()
        self.width, self.config = width, config
        self.pool = config.pooling.build(width)
        self.project: nn.Module = nn.Identity()
        if config.embedding_dim is not None:
            self.project = nn.Linear(width, config.embedding_dim, bias=config.shift)
        self.starts: dict[str, float] = {}
        if config.scale is not None:
            self.starts["log_scale"] = math.log(config.scale)
            self.starts |= {} if config.bias is None else {"bias": config.bias}
        for name in ("log_scale", "bias"):
            number = nn.Parameter(torch.zeros(1)) if name in self.starts else None
            self.register_parameter(name, number)

    def init_law(self, name: str) -> Law:
        """Start with the configured numbers."""
        return Law(mean=self.starts[name])

    def predict(self, x: Tensor) -> Tensor:
        """Pooled states [B,1,D] to [B,1,K+1]."""
        unit = F.normalize(self.project(x), dim=-1)
        one = torch.ones_like(unit[..., :1])
        if self.log_scale is None:
            return torch.cat([unit, one], dim=-1)
        scale = self.log_scale.exp()
        scale = scale if self.config.max_scale is None else scale.clamp(max=self.config.max_scale)
        bias = 0.0 if self.bias is None else self.bias
        return torch.cat([scale * unit, bias * one], dim=-1)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        raise TypeError("a joint Space has no values to embed")

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        raise TypeError("a joint Space is scored in pairs, by a contrastive objective")

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """The vector itself."""
        return prediction
