"""Masked modelling: hidden places are predicted from all others (BERT; Devlin et al. 2019, 3.1).

On ids this is masked language modelling, on patches masked image modelling: the Corruption differs.
The hidden places may be told in what another source has there: patches in their codes (BEiT; Bao et
al. 2022, 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.objectives.documents import paired_with
from broadbase.objectives.masks import MasksConfig, RandomMaskConfig, gather
from broadbase.objectives.scoring import ReadoutLoss


class MaskedConfig(ObjectiveConfig):
    """Hide a share of the places and predict those."""

    name: Literal["masked"] = "masked"
    tower: TowerName = "main"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the places of a row; BERT's: 0.15
    masks: MasksConfig = RandomMaskConfig()
    targets_from: Mapping[
        str, str
    ] = {}  # source -> the paired one whose values are told; others: their own

    def check(self, sources: Mapping[str, str | None]) -> None:
        for hidden, told in self.targets_from.items():
            paired_with(self.name, sources, hidden, told)

    def build(self) -> Objective:
        return Masked(self)


class Masked(ReadoutLoss):
    """One full stream a source; S = share * N places of each row are corrupted, only these read."""

    def __init__(self, config: MaskedConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        told = self.config.targets_from
        return tuple(
            self._view(
                name,
                segment,
                batch.segments[told.get(name, name)],
                corrupt[segment.space],
                batch.rng,
            )
            for name, segment in batch.segments.items()
            if name not in told.values()
        )

    def _view(
        self, name: str, segment: Segment, told: Segment, corrupt: Corruption, draws: KeyedRandom
    ) -> View:
        values, c = segment.values, self.config
        assert values is not None
        assert told.values is not None
        if not torch.equal(told.position, segment.position):
            raise ConfigError(
                f"the places of {segment.space!r} are not those of {told.space!r}, in which they"
                " are to be told; give both the same grid and length"
            )
        B, N = segment.position.shape[:2]
        noise_BN = draws.uniform(name, B, 2 * N)[:, N:]
        index_BS, weight_BS = c.masks.choose(segment, c.mask_ratio, draws, name, corrupt.units)
        chosen_BN = torch.zeros(B, N, dtype=torch.bool).scatter(1, index_BS, weight_BS > 0)
        noisy, hidden_BN = corrupt.noise(values, chosen_BN, noise_BN)
        read = Readout(told.space, name, gather(told.values, index_BS), weight_BS, index_BS)
        seen = replace(segment, values=noisy, masked=hidden_BN)
        return View((Stream("main", c.tower, (seen,), pattern="full", readouts=(read,)),))
