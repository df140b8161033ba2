"""Masked modelling: hidden places are predicted from all others (BERT; Devlin et al. 2019, 3.1).

On ids this is masked language modelling, on patches masked image modelling: the Corruption differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig
from broadbase.core.random import Draws
from broadbase.core.view import Read, Segment, Stream, View
from broadbase.objectives.scoring import ReadScores


class MaskedConfig(ObjectiveConfig):
    """Hide a share of the places and predict those."""

    name: Literal["masked"] = "masked"
    tower: str = "main"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the places of a row

    def build(self) -> Objective:
        return Masked(self)


class Masked(ReadScores):
    """One full stream a source; S = share * N places of each row are corrupted and read."""

    def __init__(self, config: MaskedConfig) -> None:
        self.tower, self.share = config.tower, config.share

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            self._view(name, segment, corrupt[segment.source], batch.draws)
            for name, segment in batch.segments.items()
        )

    def _view(self, name: str, segment: Segment, corrupt: Corruption, draws: Draws) -> View:
        values, weight_BN = segment.values, segment.weight
        assert values is not None
        assert weight_BN is not None
        B, N = weight_BN.shape
        rank_BN, noise_BN = draws.uniform(name, B, 2 * N).chunk(2, dim=1)
        index_BS, weight_BS = choose(rank_BN, weight_BN, math.ceil(self.share * N), self.share)
        chosen_BN = torch.zeros(B, N, dtype=torch.bool).scatter(1, index_BS, weight_BS > 0)
        noisy, hidden_BN = corrupt.noise(values, chosen_BN, noise_BN)
        read = Read(segment.source, name, _take(values, index_BS), weight_BS, index_BS)
        seen = replace(segment, values=noisy, hidden=hidden_BN)
        return View((Stream("main", self.tower, (seen,), pattern="full", reads=(read,)),))


def choose(draw_BN: Tensor, weight_BN: Tensor, places: int, share: float) -> tuple[Tensor, Tensor]:
    """Up to `places` = S places of each row, `share` of those that count as targets, at least one.

    Returns their index [B,S] and weight [B,S]; the weight is 0 where a row has fewer.
    """
    countable_BN = weight_BN > 0
    ranked_BN = torch.where(countable_BN, draw_BN, 2.0).argsort(dim=1)
    wanted_B = (countable_BN.sum(dim=1) * share).round().clamp(min=1, max=places)
    index_BS = ranked_BN[:, :places]
    keep_BS = torch.arange(places) < wanted_B.unsqueeze(1)
    return index_BS, weight_BN.gather(1, index_BS) * keep_BS


def _take(values: Tensor, index_BS: Tensor) -> Tensor:
    shape = index_BS.shape + values.shape[2:]
    return values.gather(1, index_BS.view(*index_BS.shape, *[1] * (values.ndim - 2)).expand(shape))
