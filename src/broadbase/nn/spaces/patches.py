"""The embedder of published vision transformers: patches by a linear map.

Legend: B batch, N positions, K numbers of a patch, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.spaces import Embedder

START = -1e4  # every number of a start value: no picture holds it


class PatchesConfig(Config):
    """Settings of vectors of patches, with or without a class token."""

    channels: Annotated[int, Field(ge=1)]
    """The numbers of a patch: patch * patch * the picture's channels."""
    start: bool = True
    """Whether a start value has an embedding of its own (ViT's class token)."""
    bias: bool = True
    """Whether the linear map has a bias."""

    def build(self, width: int) -> Patches:
        """Return the embedder for a tower of `width`."""
        return Patches(self, width)


class Patches(Embedder):
    """A linear map of each patch (Dosovitskiy et al. 2021, eq. 1)."""

    def __init__(self, config: PatchesConfig, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(config.channels, width, bias=config.bias)
        self.start = nn.Parameter(torch.zeros(width)) if config.start else None
        self.mask = nn.Parameter(torch.zeros(width))

    def embed(
        self, values: Tensor, masked: Tensor | None = None, document: Tensor | None = None
    ) -> Tensor:
        """Embed patches [B,N,K] as [B,N,D]; the start keeps its embedding where it is masked."""
        x_BND = super().embed(values, masked, document)
        if self.start is None:
            return x_BND
        return torch.where(values[..., :1] == START, self.start, x_BND)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed patches [B,N,K] as [B,N,D]."""
        return self.input(values.to(self.input.weight.dtype))  # type: ignore[no-any-return]
