"""Rotary positions: pairs of numbers of queries and keys are turned by angles.

Legend: B batch, T tokens, H heads, E head_dim, F = E / 2 frequencies.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.view import Tokens
from broadbase.nn.positions import Positions, PositionsConfig, Rotation, unbroadcast


class RotaryScaling(Slot):
    """A change of the rotary frequencies for contexts longer than those of the training."""

    package: ClassVar[str] = "nn"

    @property
    def gain(self) -> float:
        """Return the factor of cosines and sines; logits are multiplied by its square."""
        return 1.0

    @abstractmethod
    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        """Return new frequencies [F] for theta ** (-j / F), in radians per position."""


class LinearScaling(RotaryScaling):
    """Position interpolation: all frequencies are divided by a factor (Chen et al. 2023)."""

    name: Literal["linear"] = "linear"
    factor: Annotated[float, Field(gt=0)]
    """What frequencies are divided by."""

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        """Return the divided frequencies [F]."""
        return frequency_F / self.factor


class Llama3Scaling(RotaryScaling):
    """Low frequencies are divided, high ones kept, with a ramp between (Llama 3.1).

    A frequency counts by the turns that it makes within `original` tokens.
    """

    name: Literal["llama3"] = "llama3"
    factor: Annotated[float, Field(gt=0)] = 8.0
    """What low frequencies are divided by."""
    low: float = 1.0
    """The turns at and below which a frequency is divided."""
    high: float = 4.0
    """The turns at and above which a frequency is kept."""
    original: Annotated[int, Field(ge=1)] = 8192
    """The context length of the training, in tokens."""

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        """Return the frequencies [F], divided along the ramp."""
        turns_F = self.original * frequency_F / (2 * math.pi)
        keep_F = ((turns_F - self.low) / (self.high - self.low)).clamp(0, 1)
        return frequency_F * (keep_F + (1 - keep_F) / self.factor)


class YarnScaling(RotaryScaling):
    """A ramp over the number j of the frequency, and a gain (YaRN; Peng et al. 2023, 3.2).

    Frequencies that turn `fast` times or more within `original` tokens stay, those that turn `slow`
    times or less are divided.
    """

    name: Literal["yarn"] = "yarn"
    factor: Annotated[float, Field(gt=0)]
    """What slow frequencies are divided by."""
    original: Annotated[int, Field(ge=1)]
    """The context length of the training, in tokens."""
    fast: float = 32.0
    """The turns at and above which a frequency is kept."""
    slow: float = 1.0
    """The turns at and below which a frequency is divided."""
    truncate: bool = True
    """Whether the ends of the ramp are rounded outwards to integers."""
    attention: float | None = None
    """The factor of cosines and sines; null: 1 + log(factor) / 10."""

    @property
    def gain(self) -> float:
        """Return `attention`, or 1 + log(factor) / 10."""
        if self.attention is not None:
            return self.attention
        return 1.0 if self.factor <= 1 else 0.1 * math.log(self.factor) + 1.0

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        """Return the frequencies [F], divided along the ramp."""
        count = len(frequency_F)
        low, high = (
            count * math.log(self.original / (turns * 2 * math.pi)) / math.log(theta)
            for turns in (self.fast, self.slow)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * count - 1)
        j_F = torch.arange(count, device=frequency_F.device).float()
        divided_F = ((j_F - low) / (high - low or 0.001)).clamp(0, 1)
        return frequency_F / self.factor * divided_F + frequency_F * (1 - divided_F)


class RotaryConfig(PositionsConfig):
    """Rotary embedding (Su et al. 2021, eq. 34) over three axes.

    Frequency j turns by axis j mod 3 of (time, row, column). Text lies on the diagonal (i,i,i),
    where this is the ordinary rotary embedding bit for bit.
    """

    name: Literal["rotary"] = "rotary"
    theta: Annotated[float, Field(gt=0)] = 10000.0
    """The base of the frequencies, which run from 1 to nearly 1 / theta radians per position."""
    scaling: RotaryScaling | None = None
    """The change of the frequencies for longer contexts; null: none."""

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module; ConfigError where `head_dim` is odd."""
        if head_dim % 2:
            raise ConfigError(f"rotary positions turn pairs of numbers, and head_dim is {head_dim}")
        return Rotary(self, head_dim)

    def frequencies(self, head_dim: int, device: torch.device | None = None) -> Tensor:
        """Return the frequencies [F] in radians per position, scaled where there is a scaling."""
        exponent_F = torch.arange(0, head_dim, 2, device=device).float() / head_dim
        frequency_F = 1.0 / self.theta**exponent_F
        scaling = self.scaling
        return frequency_F if scaling is None else scaling.scale(frequency_F, self.theta)


class Rotary(Positions):
    """Cosines and sines of positions; without parameters, for any length."""

    def __init__(self, config: RotaryConfig, head_dim: int) -> None:
        super().__init__()
        self.config = config
        self.head_dim = head_dim

    def rotation(self, tokens: Tokens) -> Rotation:
        """Return cosines and sines of the positions, [B,1,T,E] each; B may be 1."""
        device = tokens.position.device
        frequency_F = self.config.frequencies(self.head_dim, device)
        scaling = self.config.scaling
        axis_F = torch.arange(self.head_dim // 2, device=device) % 3
        angle_BTF = unbroadcast(tokens.position)[..., axis_F].float() * frequency_F
        gain = 1.0 if scaling is None else scaling.gain
        cos_BTF, sin_BTF = angle_BTF.cos() * gain, angle_BTF.sin() * gain
        halves = (cos_BTF, cos_BTF), (-sin_BTF, sin_BTF)
        cos_B1TE, sin_B1TE = (torch.cat(pair, dim=-1).unsqueeze(1) for pair in halves)
        return cos_B1TE, sin_B1TE


class Rotate(torch.autograd.Function):
    """A turn of each pair (j, j + F) of x [...,E] by its angle; its gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return x [...,E] with its pairs turned."""
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x."""
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, dims=-1), sin)


def rotate(x_BHTE: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (j, j + F) of queries or keys [B,H,T,E] by its angle."""
    cos, sin = (part.to(x_BHTE.dtype) for part in rotation)
    if not x_BHTE.requires_grad:
        return _turned(x_BHTE, cos, sin)
    return Rotate.apply(x_BHTE, cos, sin)  # type: ignore[no-any-return,no-untyped-call]
