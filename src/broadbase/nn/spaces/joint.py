"""Joint heads: the vectors in which towers of different modalities are compared.

Legend: B rows, D width, K dimensions.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.spaces import Head, HeadConfig
from broadbase.nn.laws import Initialised, Law
from broadbase.nn.pooling import MeanConfig, PoolingConfig


class JointConfig(HeadConfig):
    """Settings of unit vectors; one side of a pair also has the scale and bias of the logit."""

    name: Literal["joint"] = "joint"
    embedding_dim: Annotated[int, Field(ge=1)] | None = 64
    """The dimensions of a vector; null: those of the tower, without a projection."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """The factor of the dot product at the start of training; null: the other side has it.

    CLIP: 1 / 0.07, SigLIP: 10.
    """
    bias: float | None = None
    """What is added to the scaled dot product at the start of training; null: nothing.

    SigLIP: -log(B - 1) at B pairs.
    """
    max_scale: Annotated[float, Field(gt=0)] | None = 100.0
    """The largest factor that training may reach (Radford et al. 2021, 2.5); null: any."""
    shift: bool = False
    """Whether the projection has a bias."""
    pooling: PoolingConfig = MeanConfig()
    """How the states of a row become one, before the projection."""

    def build(self, width: int) -> Joint:
        """Return the head for a tower of `width`."""
        return Joint(self, width)


class Joint(Head, Initialised):
    """A projection to K dimensions and one more, such that a dot product is a logit.

    The one side gives (u, 1), the other (exp(s) v, b), u and v of length 1: together
    exp(s) u.v + b. So an objective needs no parameters.
    """

    log_scale: Tensor | None  # s, [1]
    bias: Tensor | None  # b, [1]

    def __init__(self, config: JointConfig, width: int) -> None:
        super().__init__()
        self.config = config
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
        """Return the law of the scale or the bias: the configured number."""
        return Law(mean=self.starts[name])

    def predict(self, x: Tensor) -> Tensor:
        """Return the vectors [B,1,K+1] of pooled states [B,1,D]."""
        unit = F.normalize(self.project(x), dim=-1)
        one = torch.ones_like(unit[..., :1])
        if self.log_scale is None:
            return torch.cat([unit, one], dim=-1)
        scale = self.log_scale.exp()
        scale = scale if self.config.max_scale is None else scale.clamp(max=self.config.max_scale)
        bias = 0.0 if self.bias is None else self.bias
        return torch.cat([scale * unit, bias * one], dim=-1)

    def pooled(self, x: Tensor, document: Tensor | None) -> Tensor:
        """Return the state [B,D] of a row by the configured pooling."""
        return self.pool(x, document)  # type: ignore[no-any-return]
