"""A head without parameters: the direction of a state. Legend: B batch, S positions, D width."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from broadbase.core.spaces import Head, HeadConfig


class CosineConfig(HeadConfig):
    """Settings of the direction of a state, as long as the tower is wide."""

    name: Literal["cosine"] = "cosine"

    def build(self, width: int) -> Cosine:
        """Return the head for a tower of `width`."""
        return Cosine()


class Cosine(Head):
    """States brought to length 1; the score is 1 less the cosine with the target."""

    def predict(self, x: Tensor) -> Tensor:
        """Return the directions [B,S,D] of states."""
        return F.normalize(x, dim=-1)

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return 1 - cos(x, target), which is no likelihood, of targets [B,S,D]: [B,S]."""
        return 1 - F.cosine_similarity(x, target, dim=-1)
