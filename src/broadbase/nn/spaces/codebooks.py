"""Ids of several codebooks, one of each at every position (Copet et al. 2023, MusicGen, 2.2).

Legend: B batch, N positions, S scored positions, D width, C codebooks, V ids of a codebook.
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


class CodebooksConfig(Config):
    """Settings of several vocabularies of one size."""

    codes: Annotated[int, Field(ge=2)]
    """The ids of each codebook."""
    codebooks: Annotated[int, Field(ge=1)]
    """The number of codebooks."""

    def build(self, width: int) -> Codebooks:
        """Return the embedder and head for a tower of `width`."""
        return Codebooks(self, width)


class Codebooks(Embedder, Head):
    """Ids [B,N,C]: embedded as the sum of their embeddings, predicted by C categoricals.

    The ids of one position are independent given the positions before.
    """

    def __init__(self, config: CodebooksConfig, width: int) -> None:
        super().__init__()
        self.codes, self.codebooks = config.codes, config.codebooks
        self.embedding = nn.Embedding(config.codebooks * config.codes, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.codebooks * config.codes)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed ids [B,N,C] as [B,N,D]."""
        first_C = self.codes * torch.arange(self.codebooks, device=values.device)
        return self.embedding(values + first_C).sum(dim=-2)  # type: ignore[no-any-return]

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,S,C,V]."""
        return self.output(x).unflatten(-1, (self.codebooks, self.codes))  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of ids [B,S,C] in nats, summed over the codebooks: [B,S]."""
        return cross_entropy(self.predict(x), target).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Draw ids [B,S,C] from logits."""
        return choose(prediction)
