"""DoRA: magnitude and direction of each row of a weight apart (Liu et al. 2024, eq. 5)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from broadbase.nn.adapters.adapter import Adapter, Update
from broadbase.nn.adapters.lora import LoRA, LowRankConfig


class DoRAConfig(LowRankConfig):
    """LoRA of the direction of each row of a weight; its length is learned by itself."""

    name: Literal["dora"] = "dora"

    def build(self, name: str, linear: nn.Linear) -> Adapter:
        """Build the adapter of a map."""
        return DoRA(self, linear)


class DoRA(LoRA):
    """magnitude * (W + scale up down) / its length by rows; the bias is as it was."""

    def __init__(self, config: LowRankConfig, linear: nn.Linear) -> None:
        super().__init__(config, linear)
        self.magnitude = nn.Parameter(torch.empty(linear.out_features))

    @torch.no_grad()
    def start(self, linear: nn.Linear) -> None:
        """Start with the lengths of the rows of the weight."""
        self.magnitude.copy_(torch.linalg.vector_norm(linear.weight.float(), dim=1))

    def update(self, linear: nn.Linear) -> Update:
        """Return the product and the gain; the gradient leaves the lengths alone (4.3)."""
        low = super().update(linear)
        assert low.up is not None
        with torch.no_grad():
            weight_FK = linear.weight.to(low.up.dtype)
            length_F = torch.addmm(weight_FK, low.up, self.down).norm(dim=1)
        gain_F = self.magnitude / length_F
        shift_F = None if linear.bias is None else (1 - gain_F) * linear.bias
        return Update(low.down, low.up, gain=gain_F, shift=shift_F)
