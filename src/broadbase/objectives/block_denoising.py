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
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.masks import MasksConfig, SpanMaskConfig, gather
from broadbase.objectives.scoring import ReadoutLoss


class BlockDenoisingConfig(ObjectiveConfig):
    """Spans of a sequence, or blocks of a plane with `masks.name=blocks`."""

    name: Literal["block_denoising"] = "block_denoising"
    encoder: TowerName = "encoder"  # towers
    decoder: TowerName = "decoder"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4  # of the places of a row
    masks: MasksConfig = SpanMaskConfig()
    damage: Literal["hide", "replace"] = "hide"  # replace: by values of other places of the row
    target_all: bool = True  # tell every place; otherwise only the damaged ones

    def build(self) -> Objective:
        return BlockDenoising(self)


class BlockDenoising(ReadoutLoss):
    """Two streams a source: `encoder`, and `decoder` which reads it."""

    def __init__(self, config: BlockDenoisingConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            self._view(name, segment, corrupt[segment.space], batch.rng)
            for name, segment in batch.segments.items()
        )

    def _view(self, name: str, segment: Segment, corrupt: Corruption, draws: KeyedRandom) -> View:
        c = self.config
        assert segment.loss_weight is not None
        index_BS, weight_BS = c.masks.choose(segment, c.mask_ratio, draws, name, corrupt.units)
        B, N = segment.position.shape[:2]
        chosen_BN = torch.zeros(B, N).scatter_add(1, index_BS, weight_BS.float()) > 0
        given = self._damaged(segment, chosen_BN, draws.uniform(f"{name}/from", B, N))
        told = (
            segment
            if c.target_all
            else replace(segment, loss_weight=segment.loss_weight * chosen_BN)
        )
        seen, values, weight = next_token_targets(told)
        read = Readout(segment.space, name, values, weight)
        return View(
            (
                Stream("encoder", c.encoder, (given,)),
                Stream("decoder", c.decoder, (seen,), "causal", "encoder", readouts=(read,)),
            )
        )

    def _damaged(self, segment: Segment, chosen_BN: torch.Tensor, draw_BN: torch.Tensor) -> Segment:
        """The rows with their chosen places hidden, or replaced by values of any others."""
        values = segment.values
        assert values is not None
        if self.config.damage == "hide":
            return replace(segment, masked=chosen_BN)
        other = gather(values, (draw_BN * values.shape[1]).long())
        chosen = chosen_BN.view(*chosen_BN.shape, *[1] * (values.ndim - 2))
        return replace(segment, values=torch.where(chosen, other, values))
