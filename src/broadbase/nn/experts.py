"""Mixture of experts: each token is computed by a few of many feed-forward networks.

Legend: B rows, T tokens, D width, E experts, C experts of a token (top_k), M = B * T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

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
    """The settings of all mixtures of experts; `hidden_width` is that of one expert."""

    num_experts: Annotated[int, Field(ge=2)] = 8
    """The number of experts."""
    top_k: Annotated[int, Field(ge=1)] = 2
    """How many experts compute each token."""
    load_balance_coef: Annotated[float, Field(ge=0)] = 0.01
    """The coefficient of the load-balancing loss (Fedus et al. 2022, 2.2: 0.01)."""
    z_loss_coef: Annotated[float, Field(ge=0)] = 0.001
    """The coefficient of the router's z-loss (Zoph et al. 2022: 0.001)."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k={self.top_k} is more than num_experts={self.num_experts}")
        return self

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        """Return the coefficients of `balance` and `router_z`."""
        return {"balance": self.load_balance_coef, "router_z": self.z_loss_coef}


class ExpertsConfig(RoutedConfig):
    """Gated experts; a softmax router whose C largest weights are renormalised (Mixtral).

    Jiang et al. 2024, 2.1.
    """

    name: Literal["experts"] = "experts"
    activation: Activation = "silu"
    """The activation of the experts; with silu they are SwiGLU."""

    def build(self, width: int) -> Branch:
        """Build the mixture for a tower of `width`."""
        return Experts(
            self, width, GatedConfig(hidden_width=self.hidden_width, activation=self.activation)
        )


class ClippedExpertsConfig(RoutedConfig):
    """Clipped experts; a router with a bias, a softmax over the C largest logits (gpt-oss).

    2508.10925. A softmax over some of the logits is that over all, renormalised.
    """

    name: Literal["clipped_experts"] = "clipped_experts"
    slope: float = 1.702
    """The factor inside the sigmoid; 1.702 makes the product with the input near to gelu."""
    limit: Annotated[float, Field(gt=0)] = 7.0
    """The bound at which the halves of the unit are clipped."""

    def build(self, width: int) -> Branch:
        """Build the mixture for a tower of `width`."""
        one = ClippedConfig(hidden_width=self.hidden_width, slope=self.slope, limit=self.limit)
        return Experts(self, width, one, bias=True)


class Experts(Branch):
    """sum over the C experts of a token of weight * expert(x).

    There are two auxiliary losses of each row, which add up however a batch is cut. `balance` is E
    times the sum over experts of the fraction of tokens that use it times its mean probability
    (Fedus et al. 2022, eq. 4); it is C at an even load. `router_z` is the mean squared log-sum-exp
    of the router's logits (Zoph et al. 2022, eq. 5). Padding does not count in either.
    """

    keeps_rows: ClassVar[bool] = False

    def __init__(
        self, config: RoutedConfig, width: int, one: FeedForwardConfig, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.router = nn.Linear(width, config.num_experts, bias=bias)
        self.experts = nn.ModuleList(one.build(width) for _ in range(config.num_experts))

    def _aux_losses(
        self, logits_BTE: Tensor, used_BTE: Tensor, real_BT: Tensor | None
    ) -> AuxLosses:
        """Return the losses over the tokens that are real (None: all), [B] each."""
        weight_BT = torch.ones_like(logits_BTE[..., 0])
        weight_BT = weight_BT if real_BT is None else real_BT.to(weight_BT)
        weight_BT = weight_BT / weight_BT.sum(dim=1, keepdim=True).clamp(min=1)
        fraction_BE = (used_BTE * weight_BT.unsqueeze(-1)).sum(dim=1)
        mean_BE = (logits_BTE.softmax(dim=-1) * weight_BT.unsqueeze(-1)).sum(dim=1)
        return {
            "balance": len(self.experts) * (fraction_BE * mean_BE).sum(dim=-1),
            "router_z": (logits_BTE.logsumexp(dim=-1).square() * weight_BT).sum(dim=-1),
        }

    def forward(self, x_BTD: Tensor, inputs: LayerInputs) -> tuple[Tensor, AuxLosses]:
        """Return the update [B,T,D], and `balance` and `router_z`, [B] each."""
        logits_BTE = self.router(x_BTD)
        logits_BTE = logits_BTE.to(torch.promote_types(logits_BTE.dtype, torch.float32))
        weight_BTC, index_BTC = logits_BTE.softmax(dim=-1).topk(self.top_k, dim=-1)
        weight_BTC = (weight_BTC / weight_BTC.sum(dim=-1, keepdim=True)).to(x_BTD.dtype)
        used_BTE = F.one_hot(index_BTC, len(self.experts)).sum(dim=2)
        flat_MD, out_MD = x_BTD.flatten(0, 1), torch.zeros_like(x_BTD).flatten(0, 1)
        index_MC, weight_MC = index_BTC.flatten(0, 1), weight_BTC.flatten(0, 1)
        for number, expert in enumerate(self.experts):
            token, slot = (index_MC == number).nonzero(as_tuple=True)
            update_ND, _ = expert(flat_MD[token], inputs)
            out_MD = out_MD.index_add(0, token, update_ND * weight_MC[token, slot, None])
        return out_MD.view_as(x_BTD), self._aux_losses(logits_BTE, used_BTE, inputs.real)
