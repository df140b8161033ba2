"""A Space of vectors to reconstruct. Legend: B batch, S scored places, K channels, D width."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.nn.laws import OutputLinear


class RegressionConfig(Config):
    """Vectors, told by their squared error."""

    channels: Annotated[int, Field(ge=1)]
    normalise: bool = True  # targets are brought to mean 0 and variance 1, each by itself

    def build(self, width: int) -> Regression:
        return Regression(self, width)


class Regression(nn.Module):
    """The decoder's side of a masked autoencoder (He et al. 2022, 3): mask vectors in, pixels out.

    It embeds only hidden places, and its score is a mean squared error, no likelihood.
    """

    EPSILON = 1e-6

    def __init__(self, config: RegressionConfig, width: int) -> None:
        super().__init__()
        self.width, self.normalise = width, config.normalise
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.channels)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The mask vector at every place [B,N,D]: the values are what is asked for."""
        return self.mask.expand(*values.shape[:2], -1)

    def predict(self, x: Tensor) -> Tensor:
        """Values [B,S,K], normalised ones where the targets are."""
        return self.output(x)  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """The squared error, a mean over channels: [B,S]."""
        if self.normalise:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + self.EPSILON).sqrt()
        return (self.predict(x) - target).square().mean(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """The prediction itself."""
        return prediction
