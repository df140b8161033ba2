"""Vectors of few channels, each predicted as one of a few steps.

Legend: B batch, N positions, S scored positions, D width, K channels, L levels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.spaces import Embedder, Head, SampleFn
from broadbase.nn.cross_entropy import cross_entropy
from broadbase.nn.laws import OutputLinear


class QuantizedVectorConfig(Config):
    """Settings of vectors with channels in [0, 1]."""

    channels: Annotated[int, Field(ge=1)]
    """The numbers of a vector."""
    levels: Annotated[int, Field(ge=2)] = 16
    """The steps that a channel is predicted in."""

    def build(self, width: int) -> QuantizedVector:
        """Return the embedder and head for a tower of `width`."""
        return QuantizedVector(self, width)


class QuantizedVector(Embedder, Head):
    """Vectors [B,N,K]: embedded by a projection, predicted by a categorical for each channel.

    The likelihood is exact for the values quantised to `levels` steps, so it can be compared with
    any other model of the same quantised values. Channels are independent given the past.
    """

    def __init__(self, config: QuantizedVectorConfig, width: int) -> None:
        super().__init__()
        self.channels, self.levels = config.channels, config.levels
        self.input = nn.Linear(config.channels, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.channels * config.levels)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed vectors [B,N,K] as [B,N,D]."""
        return self.input(values)  # type: ignore[no-any-return]

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,S,K,L]."""
        return self.output(x).unflatten(-1, (self.channels, self.levels))  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of vectors [B,S,K] in nats, summed over the channels: [B,S]."""
        level_BSK = (target.clamp(0, 1) * (self.levels - 1)).round().long()
        return cross_entropy(self.predict(x), level_BSK).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Draw vectors [B,S,K] from logits."""
        return choose(prediction).to(self.input.weight.dtype) / (self.levels - 1)
