"""Masked modelling: masked tokens are predicted from all others (BERT; Devlin et al. 2019, 3.1).

On ids this is masked language modelling, on patches masked image modelling: the Corruption differs.
The targets may be the values of a paired source at the same positions: patches are then predicted
as codes (BEiT; Bao et al. 2022, 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.objectives.documents import paired_with
from broadbase.objectives.masks import MasksConfig, RandomMaskConfig, gather
from broadbase.objectives.scoring import ReadoutLoss


class MaskedConfig(ObjectiveConfig):
    """Masks a share of the tokens and predicts those."""

    name: Literal["masked"] = "masked"
    tower: TowerName = "main"
    """The tower that reads the tokens."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of a row's tokens that are targets. BERT has 0.15."""
    masks: MasksConfig = RandomMaskConfig()
    """Which tokens are targets."""
    targets_from: Mapping[str, str] = {}
    """The paired source that has the targets, by source. Other sources predict their values."""

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that sources and their targets are paired; ValueError otherwise."""
        for masked, target in self.targets_from.items():
            paired_with(self.name, sources, masked, target)

    def build(self) -> Objective:
        """Return the objective."""
        return Masked(self)


@dataclass(frozen=True)
class Masked(ReadoutLoss):
    """One full stream for each source; mask_ratio * N tokens of a row are corrupted and scored."""

    config: MaskedConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return one view for each source that is no other's target."""
        targets_from = self.config.targets_from
        return tuple(
            self._view(
                name,
                segment,
                batch.segments[targets_from.get(name, name)],
                corrupt[segment.space],
                batch.rng,
            )
            for name, segment in batch.segments.items()
            if name not in targets_from.values()
        )

    def _view(
        self,
        name: str,
        segment: Segment,
        target: Segment,
        corruption: Corruption,
        rng: KeyedRandom,
    ) -> View:
        values, c = segment.values, self.config
        if not torch.equal(target.position, segment.position):
            raise ConfigError(
                f"objective 'masked' predicts {segment.space!r} as {target.space!r}, and their"
                " positions differ; give both the same grid and sequence_length"
            )
        B, N = segment.position.shape[:2]
        noise_BN = rng.uniform(name, B, 2 * N)[:, N:]
        index_BS, weight_BS = c.masks.choose(segment, c.mask_ratio, rng, name, corruption.units)
        chosen_BN = torch.zeros(B, N, dtype=torch.bool).scatter(1, index_BS, weight_BS > 0)
        noisy, masked_BN = corruption.noise(values, chosen_BN, noise_BN)
        readout = Score(target.space, name, gather(target.values, index_BS), weight_BS, index_BS)
        inputs = replace(segment, values=noisy, masked=masked_BN)
        return View((Stream("main", c.tower, (inputs,), pattern="full", readouts=(readout,)),))
