"""Linear maps of one input, which are one product where a model is used and not trained.

Legend: F outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class FusedLinears(nn.Module):
    """A module some of whose linear maps read the same."""

    fused_names: ClassVar[tuple[str, ...]]  # their names

    def __init__(self) -> None:
        super().__init__()
        self.joint: nn.Module | None = None
        self.sizes: list[int] = []

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """What each of them makes of x [...,K], in the order of `joins`: [...,F] each."""
        if self.joint is None:
            return [getattr(self, name)(x) for name in self.fused_names]
        return self.joint(x).split_with_sizes(self.sizes, dim=-1)  # type: ignore[no-any-return]

    def fuse(self) -> None:
        """Let one map with the same numbers take their place, if it has not yet."""
        if self.joint is not None:
            return
        parts: list[nn.Linear] = [getattr(self, name) for name in self.fused_names]
        self.sizes = [part.out_features for part in parts]
        self.joint = joined(parts)
        for name in self.fused_names:
            delattr(self, name)


def joined(parts: Sequence[nn.Linear]) -> nn.Linear:
    """Linear maps of one input as one, their outputs side by side."""
    weight = torch.cat([part.weight.detach() for part in parts])
    biased = any(part.bias is not None for part in parts)
    whole = nn.Linear(weight.shape[1], len(weight), bias=biased, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    if biased:
        none = weight.new_zeros
        sides = [none(p.out_features) if p.bias is None else p.bias.detach() for p in parts]
        whole.bias = nn.Parameter(torch.cat(sides), requires_grad=False)
    return whole
