"""The positions slot: how the backbone knows where a place is.

Legend: B batch, T places, Q queries, K keys, D width, H heads, E head_dim, F = E / 2 frequencies.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from broadbase.core.config import Choice
from broadbase.core.errors import ConfigError
from broadbase.core.view import Tokens

Rotation = tuple[Tensor, Tensor]  # cosines and sines, [B,1,T,E]


class Positions(nn.Module):
    """Acts at the input (`embed`) or in attention (`rotation`, `bias`); by default nowhere."""

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        """Add what is known of positions before the first block."""
        return x_BTD

    def rotation(self, tokens: Tokens) -> Rotation | None:
        """What turns queries and keys, if anything does."""
        return None

    def bias(self, queries: Tokens, keys: Tokens) -> Tensor | None:
        """What every layer adds to its attention logits, if anything: [B,H,Q,K], B may be 1."""
        return None


class PositionsConfig(Choice):
    """A way to know positions."""

    package: ClassVar[str] = "nn"

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """The module for a tower of `width` with `heads` heads of `head_dim`."""
        raise TypeError(f"{type(self).__name__} has no build()")


class RotaryScaling(Choice):
    """Changes the rotary frequencies, to reach contexts longer than those trained on."""

    package: ClassVar[str] = "nn"

    def scale(self, frequency_F: Tensor) -> Tensor:
        """New frequencies, radians a place."""
        raise TypeError(f"{type(self).__name__} has no scale()")


class LinearScaling(RotaryScaling):
    """Position interpolation: all frequencies divided by a factor (Chen et al. 2023)."""

    name: Literal["linear"] = "linear"
    factor: float

    def scale(self, frequency_F: Tensor) -> Tensor:
        return frequency_F / self.factor


class Llama3Scaling(RotaryScaling):
    """Low frequencies divided, high ones kept, a ramp between (Llama 3.1), for long contexts."""

    name: Literal["llama3"] = "llama3"
    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def scale(self, frequency_F: Tensor) -> Tensor:
        turns_F = self.original * frequency_F / (2 * math.pi)
        keep_F = ((turns_F - self.low) / (self.high - self.low)).clamp(0, 1)
        return frequency_F * (keep_F + (1 - keep_F) / self.factor)


class RotaryConfig(PositionsConfig):
    """Rotary embedding (Su et al. 2021, eq. 34) over three axes.

    Frequency j turns by axis j mod 3 of (time, row, column). Text lies on the diagonal (i,i,i),
    where this is the ordinary rotary embedding, bit for bit.
    """

    name: Literal["rotary"] = "rotary"
    theta: float = 10000.0
    scaling: RotaryScaling | None = None

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        return Rotary(self, head_dim)


class Rotary(Positions):
    """Cosines and sines from positions; no parameters, no limit on length."""

    def __init__(self, config: RotaryConfig, head_dim: int) -> None:
        super().__init__()
        self.config = config
        self.head_dim = head_dim

    def rotation(self, tokens: Tokens) -> Rotation:
        device = tokens.position.device
        exponent_F = torch.arange(0, self.head_dim, 2, device=device).float() / self.head_dim
        frequency_F = 1.0 / self.config.theta**exponent_F
        if self.config.scaling is not None:
            frequency_F = self.config.scaling.scale(frequency_F)
        axis_F = torch.arange(self.head_dim // 2, device=device) % 3
        angle_BTF = tokens.position[..., axis_F].float() * frequency_F
        angle_B1TE = torch.cat([angle_BTF, angle_BTF], dim=-1).unsqueeze(1)
        return angle_B1TE.cos(), angle_B1TE.sin()


def rotate(x_BHTE: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (j, j + F) by its angle."""
    cos, sin = rotation
    low, high = x_BHTE.chunk(2, dim=-1)
    turned_BHTE = torch.cat([-high, low], dim=-1)
    return x_BHTE * cos.to(x_BHTE.dtype) + turned_BHTE * sin.to(x_BHTE.dtype)


class LearnedConfig(PositionsConfig):
    """A learned vector for each place (GPT-2, BERT), and for each part where there are parts."""

    name: Literal["learned"] = "learned"
    length: int
    parts: int = 0

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        return Learned(self, width)


class Learned(Positions):
    """Vectors by the time axis of the position, and by part."""

    def __init__(self, config: LearnedConfig, width: int) -> None:
        super().__init__()
        self.place = nn.Embedding(config.length, width)
        self.part = nn.Embedding(config.parts, width) if config.parts else None

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        time_BT = tokens.position[..., 0]
        x_BTD = x_BTD + self.place(time_BT)
        if self.part is not None:
            part_BT = torch.zeros_like(time_BT) if tokens.part is None else tokens.part
            x_BTD = x_BTD + self.part(part_BT)
        return x_BTD


class SinusoidConfig(PositionsConfig):
    """Fixed sines and cosines of row and column, half the width each (He et al. 2022, appendix A).

    Of a line, which runs along the diagonal, both halves say the same.
    """

    name: Literal["sinusoid"] = "sinusoid"
    theta: float = 10000.0

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        if width % 4:
            raise ConfigError(f"sinusoid positions need a width that 4 divides, not {width}")
        return Sinusoid(self, width)


class Sinusoid(Positions):
    """No parameters, no limit on length."""

    def __init__(self, config: SinusoidConfig, width: int) -> None:
        super().__init__()
        self.theta, self.width = config.theta, width

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        exponent_F = torch.arange(self.width // 4, device=x_BTD.device) / (self.width // 4)
        frequency_F = 1.0 / self.theta ** exponent_F.double()
        parts = []
        for axis in (2, 1):  # the column first
            angle_BTF = tokens.position[..., axis, None].double() * frequency_F
            parts += [angle_BTF.sin(), angle_BTF.cos()]
        return x_BTD + torch.cat(parts, dim=-1).to(x_BTD.dtype)
