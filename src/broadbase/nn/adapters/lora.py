"""LoRA: W x + b + scale up down x (Hu et al. 2022, 4.1). Legend: F outputs, K inputs, R rank."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from broadbase.nn.adapters.adapter import Adapter, AdapterConfig, Update
from broadbase.nn.laws import ZERO, Law


class LowRankConfig(AdapterConfig):
    """The settings of adapters with a low-rank product."""

    rank: Annotated[int, Field(ge=1)] = 8
    """The rank of the product that is added to a weight."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The product counts alpha / rank."""
    rank_stabilised: bool = False
    """Whether the product counts alpha / sqrt(rank) instead (Kalajdzievski 2023, rsLoRA)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the inputs of the product that are set to 0 in training."""

    @property
    def scale(self) -> float:
        """The factor of the product."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoRAConfig(LowRankConfig):
    """A low-rank product that is added to the weight (Hu et al. 2022)."""

    name: Literal["lora"] = "lora"

    def build(self, name: str, linear: nn.Linear) -> Adapter:
        """Build the adapter of a map."""
        return LoRA(self, linear)


class LoRA(Adapter):
    """`down` [R,K] and `up` [F,R]; `up` starts at 0, so that training starts at the base."""

    def __init__(self, config: LowRankConfig, linear: nn.Linear) -> None:
        super().__init__()
        self.scale, self.dropout = config.scale, config.dropout
        self.down = nn.Parameter(torch.empty(config.rank, linear.in_features))
        self.up = nn.Parameter(torch.empty(linear.out_features, config.rank))

    def init_law(self, name: str) -> Law:
        """Start `up` at 0, and `down` as a linear map."""
        return ZERO if name == "up" else Law(std=1 / math.sqrt(self.down.shape[1]))

    def update(self, linear: nn.Linear) -> Update:
        """Return the product."""
        return Update(down=self.down, up=self.scale * self.up)
