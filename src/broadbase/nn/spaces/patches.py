"""The Space of published vision transformers: patches in, nothing out.

Legend: B batch, N places, K numbers of a patch, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.core.errors import ConfigError

START = -1e4  # every number of a start value: no picture holds it


class PatchesConfig(Config):
    """Vectors of patches, and perhaps a start with a vector of its own (ViT's class token)."""

    channels: Annotated[int, Field(ge=1)]  # of a patch: patch * patch * the picture's channels
    start: bool = True
    bias: bool = True

    def build(self, width: int) -> Patches:
        return Patches(self, width)


class Patches(nn.Module):
    """A linear map of each patch (Dosovitskiy et al. 2021, eq. 1); predicts nothing."""

    def __init__(self, config: PatchesConfig, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(config.channels, width, bias=config.bias)
        self.start = nn.Parameter(torch.zeros(width)) if config.start else None
        self.mask = nn.Parameter(torch.zeros(width))

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        x_BND: Tensor = self.input(values.to(self.input.weight.dtype))
        if hidden is not None:
            x_BND = torch.where(hidden.unsqueeze(-1), self.mask, x_BND)
        if self.start is not None:
            x_BND = torch.where(values[..., :1] == START, self.start, x_BND)
        return x_BND

    def predict(self, x: Tensor) -> Tensor:
        raise ConfigError("patches of published encoders are read, and not predicted")

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        raise ConfigError("patches of published encoders are read, and not predicted")

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """The vector itself."""
        return prediction
