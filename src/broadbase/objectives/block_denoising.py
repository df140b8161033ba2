"""Denoising of what keeps its places: regions are damaged, a decoder tells what was there.

The counterpart of text infilling (Lewis et al. 2020, 2.2) for pictures, whose places are not
removed: an encoder reads the damaged rows, a decoder that reads it tells the whole in order.

Legend: B rows, N places, S damaged places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Read, Segment, Stream, View
from broadbase.objectives.documents import shifted
from broadbase.objectives.masks import MasksConfig, SpansConfig, take
from broadbase.objectives.scoring import ReadScores


class RegionsConfig(ObjectiveConfig):
    """Spans of a sequence, or blocks of a plane with `masks.name=blocks`."""

    name: Literal["regions"] = "regions"
    encoder: TowerName = "encoder"  # towers
    decoder: TowerName = "decoder"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4  # of the places of a row
    masks: MasksConfig = SpansConfig()
    damage: Literal["hide", "replace"] = "hide"  # replace: by values of other places of the row
    whole: bool = True  # tell every place; otherwise only the damaged ones

    def build(self) -> Objective:
        return Regions(self)


class Regions(ReadScores):
    """Two streams a source: `encoder`, and `decoder` which reads it."""

    def __init__(self, config: RegionsConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            self._view(name, segment, corrupt[segment.source], batch.draws)
            for name, segment in batch.segments.items()
        )

    def _view(self, name: str, segment: Segment, corrupt: Corruption, draws: Draws) -> View:
        c = self.config
        assert segment.weight is not None
        index_BS, weight_BS = c.masks.choose(segment, c.share, draws, name, corrupt.units)
        B, N = segment.position.shape[:2]
        chosen_BN = torch.zeros(B, N).scatter_add(1, index_BS, weight_BS.float()) > 0
        given = self._damaged(segment, chosen_BN, draws.uniform(f"{name}/from", B, N))
        told = segment if c.whole else replace(segment, weight=segment.weight * chosen_BN)
        seen, values, weight = shifted(told)
        read = Read(segment.source, name, values, weight)
        return View(
            (
                Stream("encoder", c.encoder, (given,)),
                Stream("decoder", c.decoder, (seen,), "causal", "encoder", reads=(read,)),
            )
        )

    def _damaged(self, segment: Segment, chosen_BN: torch.Tensor, draw_BN: torch.Tensor) -> Segment:
        """The rows with their chosen places hidden, or replaced by values of any others."""
        values = segment.values
        assert values is not None
        if self.config.damage == "hide":
            return replace(segment, hidden=chosen_BN)
        other = take(values, (draw_BN * values.shape[1]).long())
        chosen = chosen_BN.view(*chosen_BN.shape, *[1] * (values.ndim - 2))
        return replace(segment, values=torch.where(chosen, other, values))
