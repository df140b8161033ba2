"""The positions slot: how a tower knows where a token is.

`rotary.py` and `relative.py` have further choices.

Legend: B batch, T tokens, Q queries, K keys, D width, H heads, E head_dim, F frequencies.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.view import Tokens

# Cosines and sines [B,1,T,E], B may be 1; the sines of the first half with the sign of their use.
Rotation = tuple[Tensor, Tensor]


class Positions(nn.Module):
    """What acts at the input (`embed`) or in attention (`rotation`, `bias`); by default nothing."""

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        """Add the embedding of positions to the input [B,T,D] of the first block."""
        return x_BTD

    def rotation(self, tokens: Tokens) -> Rotation | None:
        """Return what turns queries and keys; None: nothing does."""
        return None

    def bias(self, queries: Tokens, keys: Tokens) -> Tensor | None:
        """Return the bias of attention logits, [B,H,Q,K] where B may be 1; None: there is none."""
        return None


def unbroadcast(position: Tensor) -> Tensor:
    """Return positions [B,T,3], or [1,T,3] where all rows are one row in memory.

    What follows from them is then computed once.
    """
    return position[:1] if position.stride(0) == 0 else position


class PositionsConfig(Slot):
    """A way to know positions."""

    package: ClassVar[str] = "nn"

    @property
    def max_length(self) -> float:
        """Return the most positions of a row that it can tell apart; by default any number."""
        return math.inf

    @abstractmethod
    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module for a tower of `width` with `heads` heads of `head_dim`."""


class NoPositionsConfig(PositionsConfig):
    """No positions of the tower: layers may have their own, and a causal mask gives an order."""

    name: Literal["none"] = "none"

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build a module that does nothing."""
        return Positions()


class LearnedConfig(PositionsConfig):
    """A learned vector for each position (GPT-2), and for each token type (BERT)."""

    name: Literal["learned"] = "learned"
    num_positions: Annotated[int, Field(ge=1)]
    """The rows of the table."""
    offset: Annotated[int, Field(ge=0)] = 0
    """The row of position 0 (2 in RoBERTa and BART); the rows before it are not used."""
    token_types: int = 0
    """The number of token types (2 in BERT, 1 in RoBERTa); 0: tokens have no type. A token of a
    type beyond them has the last."""

    @property
    def max_length(self) -> float:
        """Return the number of rows from the offset on."""
        return self.num_positions - self.offset

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module for a tower of `width`."""
        return Learned(self, width)


class Learned(Positions):
    """Vectors by the time axis of the position, and by token type."""

    def __init__(self, config: LearnedConfig, width: int) -> None:
        super().__init__()
        self.offset = config.offset
        self.place = nn.Embedding(config.num_positions, width)
        self.part = nn.Embedding(config.token_types, width) if config.token_types else None

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        """Return the input [B,T,D] plus the vectors of its positions and token types."""
        time_BT = unbroadcast(tokens.position)[..., 0]
        x_BTD = x_BTD + self.place(time_BT + self.offset)
        if self.part is not None:
            part_BT = torch.zeros_like(time_BT) if tokens.token_type is None else tokens.token_type
            x_BTD = x_BTD + self.part(part_BT.clamp(max=self.part.num_embeddings - 1))
        return x_BTD


class Learned2DConfig(PositionsConfig):
    """A learned vector for each position of a plane, and one for a start token (ViT)."""

    name: Literal["learned_2d"] = "learned_2d"
    rows: Annotated[int, Field(ge=1)]
    """The rows of the plane."""
    columns: Annotated[int, Field(ge=1)]
    """The columns of the plane."""
    start: bool = True
    """Whether a start token at (0, 0, 0) has a vector of its own."""

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module for a tower of `width`."""
        return Learned2D(self, width)


class Learned2D(Positions):
    """Vectors by row and column, which begin at 1; the start token is at (0, 0, 0)."""

    def __init__(self, config: Learned2DConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.place = nn.Embedding(config.rows * config.columns + config.start, width)

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        """Return the input [B,T,D] plus the vectors of its positions."""
        _, row_BT, column_BT = unbroadcast(tokens.position).unbind(dim=-1)
        index_BT = (row_BT - 1) * self.config.columns + column_BT - 1 + self.config.start
        index_BT = torch.where(row_BT == 0, 0, index_BT)
        return x_BTD + self.place(index_BT)  # type: ignore[no-any-return]


class SinusoidConfig(PositionsConfig):
    """Fixed sines and cosines of row and column, half the width each (He et al. 2022, appendix A).

    A line runs along the diagonal, so that its two halves are the same.
    """

    name: Literal["sinusoid"] = "sinusoid"
    theta: Annotated[float, Field(gt=0)] = 10000.0
    """The base of the frequencies, which run from 1 to nearly 1 / theta radians per position."""

    def build(self, width: int, heads: int, head_dim: int) -> Positions:
        """Build the module; ConfigError where 4 does not divide `width`."""
        if width % 4:
            raise ConfigError(f"sinusoid positions need a width that 4 divides, not {width}")
        return Sinusoid(self, width)


class Sinusoid(Positions):
    """Sines and cosines of row and column; without parameters, for any length."""

    def __init__(self, config: SinusoidConfig, width: int) -> None:
        super().__init__()
        self.theta, self.width = config.theta, width

    def embed(self, x_BTD: Tensor, tokens: Tokens) -> Tensor:
        """Return the input [B,T,D] plus the vectors of its positions."""
        exponent_F = torch.arange(self.width // 4, device=x_BTD.device) / (self.width // 4)
        frequency_F = 1.0 / self.theta ** exponent_F.double()
        parts = []
        for axis in (2, 1):  # the column first
            angle_BTF = tokens.position[..., axis, None].double() * frequency_F
            parts += [angle_BTF.sin(), angle_BTF.cos()]
        return x_BTD + torch.cat(parts, dim=-1).to(x_BTD.dtype)
