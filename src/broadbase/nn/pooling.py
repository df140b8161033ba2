"""Heads that make one vector of all places. Legend: B batch, T places, D width."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import PreNormConfig
from broadbase.nn.feedforward import Activation, PlainConfig
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.patterns import Mask
from broadbase.nn.spaces import HeadConfig


class ProbeConfig(HeadConfig):
    """A learned query reads all places, then a feed-forward (Zhai et al. 2022, MAP; SigLIP)."""

    name: Literal["probe"] = "probe"
    heads: int
    hidden: int
    activation: Activation = "gelu_tanh"
    eps: float = 1e-6

    def build(self, width: int) -> nn.Module:
        return Probe(self, width)


class Probe(nn.Module):
    """[B,T,D] to [B,1,D], of rows without padding."""

    def __init__(self, config: ProbeConfig, width: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(width))
        self.attention = GroupedQueryConfig(
            heads=config.heads,
            kv_heads=config.heads,
            head_dim=width // config.heads,
            bias=True,
            out_bias=True,
        ).build(width)
        inner = PlainConfig(hidden=config.hidden, activation=config.activation).build(width)
        residual = PreNormConfig(norm=LayerNormConfig(eps=config.eps))
        self.feedforward = residual.build(inner, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        query_B1D = self.probe.expand(len(x_BTD), 1, -1)
        read_B1D = self.attention(query_B1D, Mask(None), None, None, x_BTD)
        return self.feedforward(read_B1D)  # type: ignore[no-any-return]
