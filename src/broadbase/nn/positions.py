"""The positions slot: how the backbone knows where a place is.

Legend: B batch, T places, Q queries, K keys, D width, H heads, E head_dim, F = E / 2 frequencies.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.view import Tokens

# Cosines and sines [B,1,T,E], B may be 1; the sines of the first half with the sign of their use.
Rotation = tuple[Tensor, Tensor]


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


def unbroadcast(position: Tensor) -> Tensor:
    """Positions [B,T,3], or those of one row [1,T,3] where all rows lie in one place of memory:
    what follows from them is then computed once."""
    return position[:1] if position.stride(0) == 0 else position


class PositionsConfig(Slot):
    """A way to know positions."""

    package: ClassVar[str] = "nn"

    @property
    def max_length(self) -> float:
        """How many places of a line it can tell apart: any number, where nothing else is said."""
        return math.inf

    @abstractmethod
    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module for a tower of `width` with `heads` heads of `head_dim`."""


class NoPositionsConfig(PositionsConfig):
    """Nothing said of places: what is known of them comes from layers of their own, or masks."""

    name: Literal["none"] = "none"

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        return Positions()


class RotaryScaling(Slot):
    """Changes the rotary frequencies, to reach contexts longer than those trained on."""

    package: ClassVar[str] = "nn"

    @property
    def gain(self) -> float:
        """What cosines and sines are multiplied by, so that logits are by its square."""
        return 1.0

    @abstractmethod
    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        """Return new frequencies [F] for theta ** (-j / F), in radians per position."""


class LinearScaling(RotaryScaling):
    """Position interpolation: all frequencies divided by a factor (Chen et al. 2023)."""

    name: Literal["linear"] = "linear"
    factor: Annotated[float, Field(gt=0)]

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        return frequency_F / self.factor


class Llama3Scaling(RotaryScaling):
    """Low frequencies divided, high ones kept, a ramp between (Llama 3.1), for long contexts."""

    name: Literal["llama3"] = "llama3"
    factor: Annotated[float, Field(gt=0)] = 8.0
    low: float = 1.0
    high: float = 4.0
    original: Annotated[int, Field(ge=1)] = 8192

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
        turns_F = self.original * frequency_F / (2 * math.pi)
        keep_F = ((turns_F - self.low) / (self.high - self.low)).clamp(0, 1)
        return frequency_F * (keep_F + (1 - keep_F) / self.factor)


class YarnScaling(RotaryScaling):
    """A ramp over the number j of the frequency, and warmer logits (YaRN; Peng et al. 2023, 3.2).

    Frequencies that turn `fast` times or more within `original` places stay, those that turn `slow`
    times or less are divided.
    """

    name: Literal["yarn"] = "yarn"
    factor: Annotated[float, Field(gt=0)]
    original: Annotated[int, Field(ge=1)]
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True  # the ends of the ramp, to whole numbers
    attention: float | None = None  # the gain; None: 1 + log(factor) / 10

    @property
    def gain(self) -> float:
        if self.attention is not None:
            return self.attention
        return 1.0 if self.factor <= 1 else 0.1 * math.log(self.factor) + 1.0

    def scale(self, frequency_F: Tensor, theta: float) -> Tensor:
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
    where this is the ordinary rotary embedding, bit for bit.
    """

    name: Literal["rotary"] = "rotary"
    theta: Annotated[float, Field(gt=0)] = 10000.0
    scaling: RotaryScaling | None = None

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        if head_dim % 2:
            raise ConfigError(f"rotary positions turn pairs of numbers, and head_dim is {head_dim}")
        return Rotary(self, head_dim)

    def frequencies(self, head_dim: int, device: torch.device | None = None) -> Tensor:
        """Radians a place, scaled where there is a scaling: [F]."""
        exponent_F = torch.arange(0, head_dim, 2, device=device).float() / head_dim
        frequency_F = 1.0 / self.theta**exponent_F
        scaling = self.scaling
        return frequency_F if scaling is None else scaling.scale(frequency_F, self.theta)


class Rotary(Positions):
    """Cosines and sines from positions; no parameters, no limit on length."""

    def __init__(self, config: RotaryConfig, head_dim: int) -> None:
        super().__init__()
        self.config = config
        self.head_dim = head_dim

    def rotation(self, tokens: Tokens) -> Rotation:
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
    """Each pair (j, j + F) of x [...,E] turned by its angle; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, dims=-1), sin)


def rotate(x_BHTE: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (j, j + F) by its angle."""
    cos, sin = (part.to(x_BHTE.dtype) for part in rotation)
    if not x_BHTE.requires_grad:
        return _turned(x_BHTE, cos, sin)
    return Rotate.apply(x_BHTE, cos, sin)  # type: ignore[no-any-return,no-untyped-call]


class LearnedConfig(PositionsConfig):
    """A learned vector for each place (GPT-2, BERT), and for each part where there are parts."""

    name: Literal["learned"] = "learned"
    num_positions: Annotated[int, Field(ge=1)]
    offset: Annotated[int, Field(ge=0)] = (
        0  # the row of place 0: rows before it have no use here (RoBERTa, BART: 2)
    )
    token_types: int = 0

    @property
    def max_length(self) -> float:
        return self.num_positions - self.offset

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        return Learned(self, width)


class Learned(Positions):
    """Vectors by the time axis of the position, and by part."""

    def __init__(self, config: LearnedConfig, width: int) -> None:
        super().__init__()
        self.offset = config.offset
        self.place = nn.Embedding(config.num_positions, width)
        self.part = nn.Embedding(config.token_types, width) if config.token_types else None

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        time_BT = unbroadcast(tokens.position)[..., 0]
        x_BTD = x_BTD + self.place(time_BT + self.offset)
        if self.part is not None:
            part_BT = torch.zeros_like(time_BT) if tokens.token_type is None else tokens.token_type
            x_BTD = x_BTD + self.part(part_BT)
        return x_BTD


class Learned2DConfig(PositionsConfig):
    """A learned vector for each place of a plane, and one before them for a start (ViT)."""

    name: Literal["learned_2d"] = "learned_2d"
    rows: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    start: bool = True

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        return Learned2D(self, width)


class Learned2D(Positions):
    """Vectors by row and column, which begin at 1; the start is at (0, 0, 0)."""

    def __init__(self, config: Learned2DConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.place = nn.Embedding(config.rows * config.columns + config.start, width)

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        _, row_BT, column_BT = unbroadcast(tokens.position).unbind(dim=-1)
        index_BT = (row_BT - 1) * self.config.columns + column_BT - 1 + self.config.start
        index_BT = torch.where(row_BT == 0, 0, index_BT)
        return x_BTD + self.place(index_BT)  # type: ignore[no-any-return]


class SinusoidConfig(PositionsConfig):
    """Fixed sines and cosines of row and column, half the width each (He et al. 2022, appendix A).

    Of a line, which runs along the diagonal, both halves say the same.
    """

    name: Literal["sinusoid"] = "sinusoid"
    theta: Annotated[float, Field(gt=0)] = 10000.0

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
