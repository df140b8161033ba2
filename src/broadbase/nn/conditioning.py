"""Conditioning: layers that follow the noise level or the class of a token.

A tower embeds `Tokens.noise_level` and adds the conditions of its stream, such as a class. The
layers read the sum as `LayerInputs.condition`.

Legend: B batch, T tokens, D width, F frequencies.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses
from broadbase.nn.block import ResidualConfig
from broadbase.nn.laws import ZERO, Initialised, Law
from broadbase.nn.layer import Branch, LayerInputs, Residual
from broadbase.nn.norm import NormConfig, StandardiseConfig


class AdaptiveNormConfig(ResidualConfig):
    """x + gate * branch((1 + scale) * norm(x) + shift): adaLN-Zero (Peebles & Xie 2023, 3.2).

    Shift, scale and gate are a linear map of silu(condition). The map starts at zero, so that a
    layer starts as the identity.
    """

    name: Literal["adaptive"] = "adaptive"
    reads_condition: ClassVar[bool] = True
    norm: NormConfig = StandardiseConfig()
    """The norm before the branch; the condition gives its gain and bias."""

    def build(self, branch: Branch, width: int) -> Residual:
        """Build the residual around `branch`."""
        return AdaptiveNorm(branch, self.norm.build(width), width)


class ZeroLinear(nn.Linear, Initialised):
    """A linear map that starts at zero."""

    def init_law(self, name: str) -> Law:
        """Start weight and bias at zero."""
        return ZERO


class AdaptiveNorm(Residual):
    """A residual whose shift, scale and gate follow the condition of each token."""

    def __init__(self, branch: Branch, norm: nn.Module, width: int) -> None:
        super().__init__()
        self.branch, self.norm = branch, norm
        self.modulation = ZeroLinear(width, 3 * width)

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream after the branch, and the branch's auxiliary losses."""
        if inputs.condition is None:
            raise ConfigError(
                "a layer with an adaptive norm has no condition; give the segments a noise_level or"
                " the stream a condition"
            )
        shift, scale, gate = self.modulation(F.silu(inputs.condition)).chunk(3, dim=-1)
        update_BTD, aux = self.branch(self.norm(x_BTD) * (1 + scale) + shift, inputs)
        return x_BTD + gate * update_BTD, aux


class NoiseLevelConfig(Slot):
    """How the noise level of a token becomes a vector."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the module from levels [B,T] to vectors [B,T,D]."""


class FourierNoiseConfig(NoiseLevelConfig):
    """Sines and cosines of the level, then two linear maps (Peebles & Xie 2023; Ho et al. 2020)."""

    name: Literal["fourier"] = "fourier"
    frequencies: Annotated[int, Field(ge=1)] = 128
    """The number of frequencies, from 1 down to 1 / max_period."""
    max_period: Annotated[float, Field(gt=1)] = 10000.0
    """The longest period, in units of the scaled level, divided by 2 pi."""
    scale: Annotated[float, Field(gt=0)] = 1000.0
    """What the level is multiplied by; 1000 suits levels from 0 to 1."""

    def build(self, width: int) -> nn.Module:
        """Build the module from levels [B,T] to vectors [B,T,D]."""
        return FourierNoise(self, width)


class FourierNoise(nn.Module):
    """second(silu(first(cosines and sines of the level)))."""

    def __init__(self, config: FourierNoiseConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(2 * config.frequencies, width)
        self.second = nn.Linear(width, width)

    def forward(self, level_BT: Tensor) -> Tensor:
        """Return vectors [B,T,D]."""
        count, period = self.config.frequencies, self.config.max_period
        exponent_F = torch.arange(count, device=level_BT.device) / count
        frequency_F = torch.exp(-math.log(period) * exponent_F)
        angle_BTF = self.config.scale * level_BT.float().unsqueeze(-1) * frequency_F
        waves = torch.cat([angle_BTF.cos(), angle_BTF.sin()], dim=-1)
        vectors_BTD: Tensor = self.second(F.silu(self.first(waves.to(self.first.weight.dtype))))
        return vectors_BTD
