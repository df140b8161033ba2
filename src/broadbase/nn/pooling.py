"""The pooling slot: how one vector is made of all places. Legend: B batch, T places, D width."""

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
    """A way to make one vector of a record."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the module from states [B,T,D] and documents [B,T] or None to vectors [B,D].

        A document of -1 marks padding; None means that there is none.
        """


class MeanConfig(PoolingConfig):
    """The mean of its places."""

    name: Literal["mean"] = "mean"

    def build(self, width: int) -> nn.Module:
        return Mean()


class Mean(nn.Module):
    """Over the places that are not padding."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        return pool(x_BTD, document_BT)


class FirstConfig(PoolingConfig):
    """Its first place: the class token (Dosovitskiy et al. 2021, eq. 4)."""

    name: Literal["first"] = "first"

    def build(self, width: int) -> nn.Module:
        return First()


class First(nn.Module):
    """x[:, 0]."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        return x_BTD[:, 0]


class LastConfig(PoolingConfig):
    """Its last place: the end of a text (Radford et al. 2021, 2.4)."""

    name: Literal["last"] = "last"

    def build(self, width: int) -> nn.Module:
        return Last()


class Last(nn.Module):
    """The last place that is not padding."""

    def forward(self, x_BTD: Tensor, document_BT: Tensor | None) -> Tensor:
        if document_BT is None:
            return x_BTD[:, -1]
        place_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        last_B = torch.where(document_BT >= 0, place_T, 0).amax(dim=1)
        return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), last_B]


class AttentionPoolingConfig(PoolingConfig):
    """A learned query reads all places, then a feed-forward (Zhai et al. 2022, MAP; SigLIP)."""

    name: Literal["attention"] = "attention"
    heads: Annotated[int, Field(ge=1)]
    hidden_width: Annotated[int, Field(ge=1)]
    activation: Activation = "gelu_tanh"
    eps: Annotated[float, Field(gt=0)] = 1e-6

    def build(self, width: int) -> nn.Module:
        return AttentionPooling(self, width)


class AttentionPooling(nn.Module):
    """Of rows without padding."""

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
        query_B1D = self.probe.expand(len(x_BTD), 1, -1)
        inputs = LayerInputs(Mask(None), context=Context(x_BTD, Mask(None)))
        read_B1D, _ = self.attention(query_B1D, inputs)
        pooled_B1D, _ = self.feedforward(read_B1D, inputs)
        return pooled_B1D[:, 0]  # type: ignore[no-any-return]
