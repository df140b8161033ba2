"""Mixture of experts: each place is computed by a few of many feed-forward networks.

Legend: B rows, T places, D width, E experts, C chosen ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from broadbase.core.loss import AuxLosses
from broadbase.nn.feedforward import (
    Activation,
    ClippedConfig,
    FeedForwardConfig,
    GatedConfig,
)
from broadbase.nn.layer import Branch, LayerInputs


class RoutedConfig(FeedForwardConfig):
    """What all mixtures of experts have; not a choice by itself."""

    num_experts: Annotated[int, Field(ge=2)] = 8
    top_k: Annotated[int, Field(ge=1)] = 2
    load_balance_coef: Annotated[float, Field(ge=0)] = 0.01  # of the load-balancing loss
    z_loss_coef: Annotated[float, Field(ge=0)] = 0.001  # of the router's z-loss

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k={self.top_k} is more than num_experts={self.num_experts}")
        return self

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        return {"balance": self.load_balance_coef, "router_z": self.z_loss_coef}


class ExpertsConfig(RoutedConfig):
    """Gated experts, a softmax router, the C likeliest renormalised (Jiang et al. 2024, 2.1)."""

    name: Literal["experts"] = "experts"
    activation: Activation = "silu"

    def build(self, width: int) -> Branch:
        return Experts(
            self, width, GatedConfig(hidden_width=self.hidden_width, activation=self.activation)
        )


class ClippedExpertsConfig(RoutedConfig):
    """Clipped experts, a router with a bias, a softmax over the C chosen (gpt-oss; 2508.10925).

    A softmax over the chosen logits is one over all, renormalised.
    """

    name: Literal["clipped_experts"] = "clipped_experts"
    slope: float = 1.702  # as in ClippedConfig
    limit: Annotated[float, Field(gt=0)] = 7.0

    def build(self, width: int) -> Branch:
        one = ClippedConfig(hidden_width=self.hidden_width, slope=self.slope, limit=self.limit)
        return Experts(self, width, one, bias=True)


class Experts(Branch):
    """sum over the chosen experts of probability * expert(x).

    Two charges a row, so that they add up however a batch is cut: balance, E times the sum over
    experts of the share of places that chose it times its mean probability (Fedus et al. 2022,
    eq. 4; C at an even load), and router_z, the mean squared log-sum-exp of the router's logits
    (Zoph et al. 2022, eq. 5). Padding is not charged for: how much there is depends on the cut.
    """

    def __init__(
        self, config: RoutedConfig, width: int, one: FeedForwardConfig, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.chosen = config.top_k
        self.router = nn.Linear(width, config.num_experts, bias=bias)
        self.experts = nn.ModuleList(one.build(width) for _ in range(config.num_experts))

    def _aux_losses(
        self, logits_BTE: Tensor, took_BTE: Tensor, real_BT: Tensor | None
    ) -> AuxLosses:
        """Return the losses over the real tokens (None: all), [B] each."""
        part_BT = torch.ones_like(logits_BTE[..., 0])
        part_BT = part_BT if real_BT is None else real_BT.to(part_BT)
        part_BT = part_BT / part_BT.sum(dim=1, keepdim=True).clamp(min=1)
        share_BE = (took_BTE * part_BT.unsqueeze(-1)).sum(dim=1)
        mean_BE = (logits_BTE.softmax(dim=-1) * part_BT.unsqueeze(-1)).sum(dim=1)
        return {
            "balance": len(self.experts) * (share_BE * mean_BE).sum(dim=-1),
            "router_z": (logits_BTE.logsumexp(dim=-1).square() * part_BT).sum(dim=-1),
        }

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        logits_BTE = self.router(x_BTD)
        logits_BTE = logits_BTE.to(torch.promote_types(logits_BTE.dtype, torch.float32))
        weight_BTC, index_BTC = logits_BTE.softmax(dim=-1).topk(self.chosen, dim=-1)
        weight_BTC = (weight_BTC / weight_BTC.sum(dim=-1, keepdim=True)).to(x_BTD.dtype)
        took_BTE = F.one_hot(index_BTC, len(self.experts)).sum(dim=2)
        flat_MD, out_MD = x_BTD.flatten(0, 1), torch.zeros_like(x_BTD).flatten(0, 1)
        index_MC, weight_MC = index_BTC.flatten(0, 1), weight_BTC.flatten(0, 1)
        for number, expert in enumerate(self.experts):
            token, slot = (index_MC == number).nonzero(as_tuple=True)
            update_ND, _ = expert(flat_MD[token], inputs)
            out_MD = out_MD.index_add(0, token, update_ND * weight_MC[token, slot, None])
        return out_MD.view_as(x_BTD), self._aux_losses(logits_BTE, took_BTE, inputs.real)
