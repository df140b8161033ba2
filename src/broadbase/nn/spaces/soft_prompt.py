"""A soft prompt: vectors that are read as if they were the embeddings of tokens.

Legend: B batch, P vectors, D width.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.spaces import Embedder, HeadConfig
from broadbase.nn.laws import SMALL, Initialised, Law


class SoftPromptSpaceConfig(HeadConfig):
    """Settings of vectors that no record has (Lester et al. 2021)."""

    name: Literal["soft_prompt"] = "soft_prompt"
    length: Annotated[int, Field(ge=1)]
    """The number of vectors."""

    def build(self, width: int) -> SoftPromptSpace:
        """Return the vectors for a tower of `width`."""
        return SoftPromptSpace(self.length, width)


class SoftPromptSpace(Embedder, Initialised):
    """Ids 0 to P - 1 [B,P], each embedded as a vector of its own."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(length, width))  # [P,D]

    def init_law(self, name: str) -> Law:
        """Start as embeddings."""
        return SMALL

    def embed_values(self, values: Tensor) -> Tensor:
        """Return the vectors of ids [B,P] as [B,P,D]."""
        return self.vectors[values]
