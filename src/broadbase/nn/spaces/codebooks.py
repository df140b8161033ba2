"""A Space of several codebooks: an id of each at every place (Copet et al. 2023, MusicGen, 2.2).

Legend: B batch, N places, S scored places, D width, C codebooks, V ids of a codebook.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.nn.cross_entropy import cross_entropy
from broadbase.nn.laws import OutputLinear


class CodebooksConfig(Config):
    """C ids a place, each of a vocabulary of its own."""

    codes: Annotated[int, Field(ge=2)]
    codebooks: Annotated[int, Field(ge=1)]

    def build(self, width: int) -> Codebooks:
        return Codebooks(self, width)


class Codebooks(nn.Module):
    """Ids [B,N,C]: the sum of their embeddings in, C categorical distributions out.

    The ids of one place are independent given the places before.
    """

    def __init__(self, config: CodebooksConfig, width: int) -> None:
        super().__init__()
        self.width, self.codes, self.codebooks = width, config.codes, config.codebooks
        self.embedding = nn.Embedding(config.codebooks * config.codes, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.codebooks * config.codes)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        first_C = self.codes * torch.arange(self.codebooks, device=values.device)
        x_BND: Tensor = self.embedding(values + first_C).sum(dim=-2)
        return x_BND if hidden is None else torch.where(hidden.unsqueeze(-1), self.mask, x_BND)

    def predict(self, x: Tensor) -> Tensor:
        """Logits [B,S,C,V]."""
        return self.output(x).unflatten(-1, (self.codebooks, self.codes))  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(self.predict(x), target).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        return choose(prediction)
