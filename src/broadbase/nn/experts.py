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

from broadbase.nn.feedforward import Activation, FeedForwardConfig, Gated, GatedConfig


class ExpertsConfig(FeedForwardConfig):
    """Gated experts, a softmax router, the C likeliest renormalised (Jiang et al. 2024, 2.1)."""

    name: Literal["experts"] = "experts"
    experts: Annotated[int, Field(ge=2)] = 8
    chosen: Annotated[int, Field(ge=1)] = 2
    activation: Activation = "silu"
    balance: Annotated[float, Field(ge=0)] = 0.01  # of the load-balancing loss
    z: Annotated[float, Field(ge=0)] = 0.001  # of the router's z-loss

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.chosen > self.experts:
            raise ValueError(f"chosen={self.chosen} is more than there are experts={self.experts}")
        return self

    @property
    def penalties(self) -> Mapping[str, float]:
        return {"balance": self.balance, "router_z": self.z}

    def build(self, width: int) -> nn.Module:
        return Experts(self, width)


class Experts(nn.Module):
    """sum over the chosen experts of probability * expert(x).

    Two charges a row, so that they add up however a batch is cut: balance, E times the sum over
    experts of the share of places that chose it times its mean probability (Fedus et al. 2022,
    eq. 4; C at an even load), and router_z, the mean squared log-sum-exp of the router's logits
    (Zoph et al. 2022, eq. 5).
    """

    def __init__(self, config: ExpertsConfig, width: int) -> None:
        super().__init__()
        self.chosen = config.chosen
        self.router = nn.Linear(width, config.experts, bias=False)
        one = GatedConfig(hidden=config.hidden, activation=config.activation)
        self.experts = nn.ModuleList(Gated(one, width) for _ in range(config.experts))
        self._charges: dict[str, Tensor] = {}

    def charges(self) -> Mapping[str, Tensor]:
        """The charges of the last forward: [B] each."""
        return self._charges

    def forward(self, x_BTD: Tensor) -> Tensor:
        logits_BTE = self.router(x_BTD)
        logits_BTE = logits_BTE.to(torch.promote_types(logits_BTE.dtype, torch.float32))
        probability_BTE = logits_BTE.softmax(dim=-1)
        weight_BTC, index_BTC = probability_BTE.topk(self.chosen, dim=-1)
        weight_BTC = (weight_BTC / weight_BTC.sum(dim=-1, keepdim=True)).to(x_BTD.dtype)
        took_BTE = F.one_hot(index_BTC, len(self.experts)).sum(dim=2)
        share_BE, mean_BE = took_BTE.float().mean(dim=1), probability_BTE.mean(dim=1)
        self._charges = {
            "balance": len(self.experts) * (share_BE * mean_BE).sum(dim=-1),
            "router_z": logits_BTE.logsumexp(dim=-1).square().mean(dim=-1),
        }
        flat_MD, out_MD = x_BTD.flatten(0, 1), torch.zeros_like(x_BTD).flatten(0, 1)
        index_MC, weight_MC = index_BTC.flatten(0, 1), weight_BTC.flatten(0, 1)
        for number, expert in enumerate(self.experts):
            place, slot = (index_MC == number).nonzero(as_tuple=True)
            out_MD = out_MD.index_add(
                0, place, expert(flat_MD[place]) * weight_MC[place, slot, None]
            )
        return out_MD.view_as(x_BTD)
