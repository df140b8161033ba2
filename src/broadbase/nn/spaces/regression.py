"""A head for vectors to reconstruct. Legend: B batch, S scored positions, K channels, D width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.errors import ConfigError
from broadbase.core.spaces import Head, HeadConfig
from broadbase.nn.laws import OutputLinear


class RegressionConfig(HeadConfig):
    """Settings of vectors that are predicted with a squared error."""

    name: Literal["regression"] = "regression"
    derived: ClassVar[tuple[str, ...]] = ("channels",)
    channels: Annotated[int, Field(ge=1)] | None = None
    """The numbers of a vector; null: those of the one modality of vectors that the model has."""
    normalise: bool = True
    """Whether each target is scaled to mean 0 and variance 1 by itself."""

    def sized(self, vector_sizes: Mapping[str, int]) -> Self:
        """Return the head with `channels`; ValueError where no modality has such vectors."""
        sizes = set(vector_sizes.values())
        if self.channels is None:
            if len(sizes) != 1:
                vectors = _listed(vector_sizes) or "no modality of the model has vectors"
                raise ValueError(f"channels: {vectors}; set the numbers of a vector")
            return self.replace(channels=sizes.pop())
        if sizes and self.channels not in sizes:
            raise ValueError(
                f"channels: {self.channels}, and {_listed(vector_sizes)}; leave the setting out"
            )
        return self

    def build(self, width: int) -> Regression:
        """Return the head for a tower of `width`."""
        return Regression(self, width)


def _listed(vector_sizes: Mapping[str, int]) -> str:
    return ", ".join(f"a vector of {name!r} has {n} numbers" for name, n in vector_sizes.items())


class Regression(Head):
    """The output of a masked autoencoder's decoder (He et al. 2022, 3).

    Its mask vector is what the decoder reads at masked positions. The score is a mean squared
    error, no likelihood.
    """

    EPSILON = 1e-6

    def __init__(self, config: RegressionConfig, width: int) -> None:
        super().__init__()
        if config.channels is None:
            raise ConfigError("a regression head outside a model has no `channels`; set them")
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
