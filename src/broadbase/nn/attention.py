"""The attention slot.

Legend: B batch, T queries, S keys, D width, H query heads, G key-value heads, E head_dim.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.loss import AuxLosses
from broadbase.nn.fused import FusedLinears
from broadbase.nn.laws import ZERO, Initialised, Law, ResidualLinear
from broadbase.nn.layer import Branch, LayerInputs
from broadbase.nn.norm import NormConfig
from broadbase.nn.patterns import Mask, SpanConfig
from broadbase.nn.positions import Rotation
from broadbase.nn.rotary import rotate
from broadbase.nn.softmax import PlainSoftmaxConfig, SoftmaxConfig
from broadbase.nn.tensor_parallel import Splits, TensorParallel


class AttentionConfig(Slot):
    """A way for the tokens of a stream to read one another, or those of another stream."""

    package: ClassVar[str] = "nn"
    heads: Annotated[int, Field(ge=1)]
    """The number of query heads."""
    head_dim: Annotated[int, Field(ge=1)]
    """The dimensions of a head; heads * head_dim may differ from the width of the tower."""
    span: SpanConfig | None = None
    """How far this layer sees within the pattern of its stream; null: as far as it allows."""

    @abstractmethod
    def build(self, width: int) -> Branch:
        """Build self-attention for a tower of `width`."""

    @abstractmethod
    def cross(self, width: int) -> Branch:
        """Build cross-attention for a tower of `width`, which reads `LayerInputs.context`."""


class GroupedQueryConfig(AttentionConfig):
    """Softmax attention; groups of query heads share key-value heads (Ainslie et al. 2023).

    kv_heads = heads is multi-head attention (Vaswani et al. 2017), kv_heads = 1 multi-query.
    """

    name: Literal["grouped"] = "grouped"
    kv_heads: Annotated[int, Field(ge=1)]
    """The number of heads of keys and values, which divides `heads`."""
    bias: bool = False
    """Whether the maps to queries, keys and values have a bias."""
    k_bias: bool | None = None
    """Whether the map to keys has a bias (false in Whisper and BEiT); null: as `bias` says."""
    out_bias: bool = False
    """Whether the output map has a bias."""
    scale: float | None = None
    """The factor of the logits (T5: 1); null: 1 / sqrt(head_dim)."""
    qk_norm: NormConfig | None = None
    """The norm of the queries and keys of each head (Henry et al. 2020); null: none."""
    softmax: SoftmaxConfig = PlainSoftmaxConfig()
    """How the logits become weights of the values."""

    @model_validator(mode="after")
    def _equal_groups(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self

    def build(self, width: int) -> Branch:
        """Build self-attention for a tower of `width`."""
        return GroupedQueryAttention(self, width)

    def cross(self, width: int) -> Branch:
        """Build cross-attention for a tower of `width`."""
        return CrossAttention(self, width)


class Queries(nn.Linear, Initialised):
    """The map to queries, which makes up for the `scale` of the logits at the start of training.

    Logits of any scale start as if it were 1 / sqrt(head_dim). T5, whose scale is 1, does the same
    in its initialisation.
    """

    def __init__(self, width: int, heads: int, config: GroupedQueryConfig) -> None:
        super().__init__(width, heads, bias=config.bias)
        default = config.head_dim**-0.5
        self.shrink = default / (config.scale or default)

    def init_law(self, name: str) -> Law:
        """Start as any linear map, times 1 / sqrt(head_dim) over the scale."""
        return ZERO if name == "bias" else Law(std=self.shrink / math.sqrt(self.in_features))


class SoftmaxAttention(FusedLinears, Branch, TensorParallel):
    """The maps of softmax attention, which self- and cross-attention share."""

    tp_plan: ClassVar[Splits] = {
        "q": "outputs",
        "k": "outputs",
        "v": "outputs",
        "q_norm": "heads",
        "k_norm": "heads",
        "out": "inputs",
    }

    def __init__(self, config: GroupedQueryConfig, width: int) -> None:
        super().__init__()
        self.head_dim, self.scale = config.head_dim, config.scale
        heads, groups = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = Queries(width, heads, config)
        k_bias = config.bias if config.k_bias is None else config.k_bias
        self.k = nn.Linear(width, groups, bias=k_bias)
        self.v = nn.Linear(width, groups, bias=config.bias)
        self.out = ResidualLinear(heads, width, bias=config.out_bias)
        self.softmax = config.softmax.build(config.heads)
        norm = config.qk_norm
        self.normed = norm is not None
        self.q_norm = norm.build(config.head_dim) if norm else nn.Identity()
        self.k_norm = norm.build(config.head_dim) if norm else nn.Identity()

    def attend(self, q_BHTE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, mask: Mask) -> Tensor:
        """Return the output [B,T,D] of queries that read keys and values under a mask."""
        out_BHTE = self.softmax(q_BHTE, k_BGSE, v_BGSE, mask, self.scale)
        y_BTD: Tensor = self.out(out_BHTE.transpose(1, 2).flatten(2))
        return y_BTD

    def split_heads(self, x: Tensor) -> Tensor:
        """Cut [B,T,H*E] into heads: [B,H,T,E]."""
        B, T, _ = x.shape
        return x.view(B, T, -1, self.head_dim).transpose(1, 2)


class GroupedQueryAttention(SoftmaxAttention):
    """Self-attention: the tokens of a stream read one another."""

    fused_names: ClassVar[tuple[str, ...]] = ("q", "k", "v")

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the update [B,T,D] and no auxiliary loss; a cache takes up new keys and values."""
        q_BHTE, k_BGSE, v_BGSE = self._project_heads(x_BTD, inputs.rotation)
        if inputs.cache is not None:
            k_BGSE, v_BGSE = inputs.cache.extend(k_BGSE, v_BGSE)
        return self.attend(q_BHTE, k_BGSE, v_BGSE, inputs.mask), {}

    def _project_heads(self, x_BTD: Tensor, rotation: Rotation | None) -> Sequence[Tensor]:
        """Return queries, keys and values by heads, queries and keys normed and rotated."""
        if self.joint is not None and rotation is not None and not self.normed:
            heads = self.split_heads(self.joint(x_BTD))
            q, k, _ = (size // self.head_dim for size in self.sizes)
            rotated = rotate(heads[:, : q + k], rotation)  # both at once
            return rotated[:, :q], rotated[:, q:], heads[:, q + k :]
        q_BHTE, k_BGSE, v_BGSE = (self.split_heads(part) for part in self.project(x_BTD))
        q_BHTE, k_BGSE = self.q_norm(q_BHTE), self.k_norm(k_BGSE)
        if rotation is not None:
            q_BHTE, k_BGSE = rotate(q_BHTE, rotation), rotate(k_BGSE, rotation)
        return q_BHTE, k_BGSE, v_BGSE


class CrossAttention(SoftmaxAttention):
    """Cross-attention: the tokens of a stream read those of `LayerInputs.context`."""

    fused_names: ClassVar[tuple[str, ...]] = ("k", "v")

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the update [B,T,D] and no auxiliary loss.

        A cache keeps the keys and values of the context, which are computed once.
        """
        assert inputs.context is not None, "cross-attention needs a context"
        cache = inputs.cache
        keys_values = None if cache is None else cache.context
        if keys_values is None:
            k_BGSE, v_BGSE = (self.split_heads(x) for x in self.project(inputs.context.x))
            keys_values = self.k_norm(k_BGSE), v_BGSE
        if cache is not None:
            cache.context = keys_values
        q_BHTE = self.q_norm(self.split_heads(self.q(x_BTD)))
        return self.attend(q_BHTE, *keys_values, inputs.context.mask), {}
