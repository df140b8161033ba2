"""Linear maps of one input, which are one product where a model is used and not trained.

Legend: F outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from broadbase.core.errors import ConfigError


class FusedLinears(nn.Module):
    """A module some of whose linear maps read the same input."""

    fused_names: ClassVar[tuple[str, ...]]
    """The names of these maps."""

    def __init__(self) -> None:
        super().__init__()
        self.joint: nn.Module | None = None
        self.sizes: list[int] = []

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """Return the outputs of each map [...,F] for x [...,K], in the order of `fused_names`."""
        if self.joint is None:
            return [getattr(self, name)(x) for name in self.fused_names]
        return self.joint(x).split_with_sizes(self.sizes, dim=-1)  # type: ignore[no-any-return]

    @property
    def can_fuse(self) -> bool:
        """Whether each of the maps is W x + b and nothing more."""
        return not any(map(_why_not, self._parts()))

    def fuse(self) -> None:
        """Replace the maps by one of the same numbers, unless this is already done.

        ConfigError where one of them does more than W x + b, as an adapter does: it would be lost.
        """
        if self.joint is not None:
            return
        parts = self._parts()
        for name, part in zip(self.fused_names, parts, strict=True):
            if reason := _why_not(part):
                raise ConfigError(
                    f"{name} {reason} and cannot be fused with"
                    f" {', '.join(n for n in self.fused_names if n != name)}; merge it into the"
                    " weight first"
                )
        self.sizes = [part.out_features for part in parts]
        self.joint = concatenate(parts)
        for name in self.fused_names:
            delattr(self, name)

    def _parts(self) -> list[nn.Linear]:
        return [] if self.joint is not None else [getattr(self, name) for name in self.fused_names]


def _why_not(part: nn.Module) -> str:
    """Return why a map is more than W x + b; empty if it is not."""
    if type(part).forward is not nn.Linear.forward:
        return f"is a {type(part).__name__}"
    if part._forward_hooks or part._forward_pre_hooks:
        return "has a hook"
    return ""


def concatenate(parts: Sequence[nn.Linear]) -> nn.Linear:
    """Return linear maps of one input as one map, which gives their outputs end to end."""
    weight = torch.cat([part.weight.detach() for part in parts])
    has_bias = any(part.bias is not None for part in parts)
    joint = nn.Linear(weight.shape[1], len(weight), bias=has_bias, device="meta")
    joint.weight = nn.Parameter(weight, requires_grad=False)
    if has_bias:
        zeros = weight.new_zeros
        biases = [zeros(p.out_features) if p.bias is None else p.bias.detach() for p in parts]
        joint.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return joint
