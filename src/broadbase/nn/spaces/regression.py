"""A head for vectors to reconstruct. Legend: B batch, S scored positions, K channels, D width."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.spaces import Head, HeadConfig
from broadbase.nn.laws import OutputLinear


class RegressionConfig(HeadConfig):
    """Settings of vectors that are predicted with a squared error."""

    name: Literal["regression"] = "regression"
    channels: Annotated[int, Field(ge=1)]
    """The numbers of a vector; of a patch: patch * patch * the picture's channels."""
    normalise: bool = True
    """Whether each target is scaled to mean 0 and variance 1 by itself."""

    def build(self, width: int) -> Regression:
        """Return the head for a tower of `width`."""
        return Regression(self, width)


class Regression(Head):
    """The output of a masked autoencoder's decoder (He et al. 2022, 3).

    Its mask vector is what the decoder reads at masked positions. The score is a mean squared
    error, no likelihood.
    """

    EPSILON = 1e-6

    def __init__(self, config: RegressionConfig, width: int) -> None:
        super().__init__()
        self.normalise = config.normalise
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.channels)

    def predict(self, x: Tensor) -> Tensor:
        """Return values [B,S,K], normalised ones where the targets are."""
        return self.output(x)  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of targets [B,S,K], the mean over channels: [B,S]."""
        if self.normalise:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + self.EPSILON).sqrt()
        return (self.predict(x) - target).square().mean(dim=-1)
