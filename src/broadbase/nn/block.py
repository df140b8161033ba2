"""One layer: attention and feed-forward around a residual stream; where the norm sits is a slot.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from broadbase.core.config import Config, Slot
from broadbase.core.loss import AuxLosses, add_losses
from broadbase.nn.attention import AttentionConfig
from broadbase.nn.feedforward import FeedForwardConfig
from broadbase.nn.laws import ONE, Initialised, Law
from broadbase.nn.layer import Branch, LayerInputs, Residual
from broadbase.nn.norm import NormConfig, RMSNormConfig
from broadbase.nn.positions import PositionsConfig


class ResidualConfig(Slot):
    """Where the norm of a residual branch sits."""

    package: ClassVar[str] = "nn"
    reads_condition: ClassVar[bool] = False
    """Whether a layer needs `LayerInputs.condition`."""
    norm: NormConfig = RMSNormConfig()
    """The norm of the branch."""

    @abstractmethod
    def build(self, branch: Branch, width: int) -> Residual:
        """Build the residual around `branch` for a tower of `width`."""


class PreNormConfig(ResidualConfig):
    """x + branch(norm(x)) (Xiong et al. 2020, fig. 1b)."""

    name: Literal["pre"] = "pre"

    def build(self, branch: Branch, width: int) -> Residual:
        """Build x + branch(norm(x))."""
        return PreNorm(branch, self.norm.build(width))


class PostNormConfig(ResidualConfig):
    """norm(x + branch(x)) (Vaswani et al. 2017)."""

    name: Literal["post"] = "post"

    def build(self, branch: Branch, width: int) -> Residual:
        """Build norm(x + branch(x))."""
        return PostNorm(branch, self.norm.build(width))


class SandwichConfig(ResidualConfig):
    """x + norm(branch(norm(x))) with two norms of their own (Gemma 2; 2408.00118, 2)."""

    name: Literal["sandwich"] = "sandwich"

    def build(self, branch: Branch, width: int) -> Residual:
        """Build x + norm(branch(norm(x)))."""
        return Sandwich(branch, self.norm.build(width), self.norm.build(width))


class LayerScaleConfig(ResidualConfig):
    """x + gain * branch(norm(x)), a learned gain for each channel (Touvron et al. 2021, eq. 8)."""

    name: Literal["layer_scale"] = "layer_scale"

    def build(self, branch: Branch, width: int) -> Residual:
        """Build x + gain * branch(norm(x))."""
        return LayerScale(branch, self.norm.build(width), width)


def added(x_BTD: Tensor, update_BTD: Tensor) -> Tensor:
    """Return the sum [B,T,D], in the memory of the update, which its branch needs no more."""
    # a subclass may be an update that other ranks have not sent yet
    plain = type(update_BTD) is Tensor and update_BTD.dtype == x_BTD.dtype
    if not plain or torch.compiler.is_compiling():
        return x_BTD + update_BTD
    return update_BTD.add_(x_BTD)


class PreNorm(Residual):
    """x + branch(norm(x))."""

    def __init__(self, branch: Branch, norm: nn.Module) -> None:
        super().__init__()
        self.branch, self.norm = branch, norm

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream [B,T,D] after the branch, and the branch's auxiliary losses."""
        update_BTD, aux = self.branch(self.norm(x_BTD), inputs)
        return added(x_BTD, update_BTD), aux


class PostNorm(Residual):
    """norm(x + branch(x))."""

    def __init__(self, branch: Branch, norm: nn.Module) -> None:
        super().__init__()
        self.branch, self.norm = branch, norm

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream [B,T,D] after the branch, and the branch's auxiliary losses."""
        update_BTD, aux = self.branch(x_BTD, inputs)
        return self.norm(added(x_BTD, update_BTD)), aux


class Sandwich(Residual):
    """x + after(branch(norm(x)))."""

    def __init__(self, branch: Branch, norm: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch, self.norm, self.after = branch, norm, after

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream [B,T,D] after the branch, and the branch's auxiliary losses."""
        update_BTD, aux = self.branch(self.norm(x_BTD), inputs)
        return added(x_BTD, self.after(update_BTD)), aux


class LayerScale(Residual, Initialised):
    """x + gain * branch(norm(x)); the gain starts at 1."""

    def __init__(self, branch: Branch, norm: nn.Module, width: int) -> None:
        super().__init__()
        self.branch, self.norm = branch, norm
        self.gain = nn.Parameter(torch.ones(width))

    def init_law(self, name: str) -> Law:
        """Start with a gain of 1."""
        return ONE

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream [B,T,D] after the branch, and the branch's auxiliary losses."""
        update_BTD, aux = self.branch(self.norm(x_BTD), inputs)
        return added(x_BTD, self.gain * update_BTD), aux


class BlockConfig(Config):
    """A layer of a transformer."""

    attention: AttentionConfig
    """The self-attention."""
    feedforward: FeedForwardConfig
    """The feed-forward network."""
    residual: ResidualConfig = PreNormConfig()
    """Where the norm of attention and of the feed-forward sits."""
    feedforward_residual: ResidualConfig | None = None
    """Where the norm of the feed-forward sits; null: as `residual` says."""
    cross: AttentionConfig | None = None
    """The cross-attention to the context of the stream, as in an encoder-decoder; null: none."""
    positions: PositionsConfig | None = None
    """The positions in this layer; null: those of the tower."""

    @property
    def reads_condition(self) -> bool:
        """Whether one of the residuals needs a condition."""
        return any(r.reads_condition for r in (self.residual, self.feedforward_residual) if r)

    def build(self, width: int) -> Block:
        """Build the layer for a tower of `width`."""
        return Block(self, width)


class Block(nn.Module):
    """Attention, then feed-forward, each with its residual."""

    def __init__(self, config: BlockConfig, width: int) -> None:
        super().__init__()
        self.attention = config.residual.build(config.attention.build(width), width)
        self.cross = (
            config.residual.build(config.cross.cross(width), width) if config.cross else None
        )
        inner = config.feedforward.build(width)
        self.feedforward = (config.feedforward_residual or config.residual).build(inner, width)
        self.branches = 2 if self.cross is None else 3  # how many updates the stream gets

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the stream after the layer [B,T,D] and its auxiliary losses, [B] each."""
        x_BTD, aux = self.attention(x_BTD, inputs)
        if self.cross is not None and inputs.context is not None:
            x_BTD, of_cross = self.cross(x_BTD, inputs)
            aux = add_losses(aux, of_cross)
        x_BTD, of_feedforward = self.feedforward(x_BTD, inputs)
        return x_BTD, add_losses(aux, of_feedforward)
