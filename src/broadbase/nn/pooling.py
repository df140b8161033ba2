"""The pooling slot: how one vector is made of all tokens. Legend: B batch, T tokens, D width."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.view import pool
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import PreNormConfig
from broadbase.nn.feedforward import Activation, MLPConfig
from broadbase.nn.layer import Context, LayerInputs
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.patterns import Mask


class PoolingConfig(Slot):
    """A way to make one vector of the states of a record."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the module from states [B,T,D] and documents [B,T] or None to vectors [B,D].

        A document of -1 marks padding; None means that there is none.
        """


class MeanConfig(PoolingConfig):
    """The mean over the tokens of a record."""

    name: Literal["mean"] = "mean"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return Mean()


class Mean(nn.Module):
    """The mean over the tokens that are not padding."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        """Return the vectors [B,D] of states [B,T,D]."""
        return pool(x_BTD, document_BT)


class FirstConfig(PoolingConfig):
    """The first token of a record: the class token (Dosovitskiy et al. 2021, eq. 4)."""

    name: Literal["first"] = "first"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return First()


class First(nn.Module):
    """x[:, 0]."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        """Return the vectors [B,D] of states [B,T,D]."""
        return x_BTD[:, 0]


class LastConfig(PoolingConfig):
    """The last token of a record: the end of a text (Radford et al. 2021, 2.4)."""

    name: Literal["last"] = "last"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return Last()


class Last(nn.Module):
    """The last token that is not padding."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        """Return the vectors [B,D] of states [B,T,D]."""
        if document_BT is None:
            return x_BTD[:, -1]
        index_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        last_B = torch.where(document_BT >= 0, index_T, 0).amax(dim=1)
        return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), last_B]


class AttentionPoolingConfig(PoolingConfig):
    """A learned query that reads all tokens, then a feed-forward (Zhai et al. 2022; SigLIP)."""

    name: Literal["attention"] = "attention"
    heads: Annotated[int, Field(ge=1)]
    """The number of heads, which share the width of the tower."""
    hidden_width: Annotated[int, Field(ge=1)]
    """The width of the hidden layer of the feed-forward."""
    activation: Activation = "gelu_tanh"
    """The activation of the feed-forward."""
    eps: Annotated[float, Field(gt=0)] = 1e-6
    """What the layer norm adds to the variance."""

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return AttentionPooling(self, width)


class AttentionPooling(nn.Module):
    """x + mlp(norm(x)), x being what the query reads; for rows without padding."""

    def __init__(self, config: AttentionPoolingConfig, width: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(width))
        self.attention = GroupedQueryConfig(
            heads=config.heads,
            kv_heads=config.heads,
            head_dim=width // config.heads,
            bias=True,
            out_bias=True,
        ).cross(width)
        inner = MLPConfig(hidden_width=config.hidden_width, activation=config.activation).build(
            width
        )
        residual = PreNormConfig(norm=LayerNormConfig(eps=config.eps))
        self.feedforward = residual.build(inner, width)

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        """Return the vectors [B,D] of states [B,T,D]."""
        query_B1D = self.probe.expand(len(x_BTD), 1, -1)
        inputs = LayerInputs(Mask(None), context=Context(x_BTD, Mask(None)))
        read_B1D, _ = self.attention(query_B1D, inputs)
        pooled_B1D, _ = self.feedforward(read_B1D, inputs)
        return pooled_B1D[:, 0]  # type: ignore[no-any-return]
