"""Denoising that keeps positions: regions are damaged, and a decoder predicts the original.

The counterpart of text infilling (Lewis et al. 2020, 2.2) for images, whose tokens cannot be
removed: an encoder reads the damaged rows, and a decoder that attends to it predicts the record in
order.

Legend: B rows, N tokens, S damaged tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.masks import MasksConfig, SpanMaskConfig, gather
from broadbase.objectives.scoring import PerSource


class BlockDenoisingConfig(ObjectiveConfig):
    """Denoising of spans of a sequence, or of blocks of a plane with `masks.name=blocks`."""

    name: Literal["block_denoising"] = "block_denoising"
    encoder: TowerName = "encoder"
    """The tower that reads the damaged rows."""
    decoder: TowerName = "decoder"
    """The tower that predicts the original; it attends to the encoder."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """The share of a row's tokens that are damaged."""
    masks: MasksConfig = SpanMaskConfig()
    """Which tokens are damaged."""
    damage: Literal["hide", "replace"] = "hide"
    """What damage is: `hide` masks a token, `replace` takes the value of another token of the
    row."""
    target_all: bool = True
    """Whether every token is a target; otherwise only the damaged ones are."""

    def build(self) -> Objective:
        """Return the objective."""
        return BlockDenoising(self)


@dataclass(frozen=True)
class BlockDenoising(PerSource):
    """Two streams for each source: `encoder`, and `decoder`, which attends to it."""

    config: BlockDenoisingConfig

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return the encoder's stream of damaged rows and the decoder's of the original."""
        c = self.config
        units = corrupt[segment.space].units
        index_BS, weight_BS = c.masks.choose(segment, c.mask_ratio, rng, name, units)
        B, N = segment.position.shape[:2]
        chosen_BN = torch.zeros(B, N).scatter_add(1, index_BS, weight_BS.float()) > 0
        damaged = self._damaged(segment, chosen_BN, rng.uniform(f"{name}/from", B, N))
        original = (
            segment
            if c.target_all
            else replace(segment, loss_weight=segment.target_weight * chosen_BN)
        )
        inputs, target, weight = next_token_targets(original)
        readout = Score(segment.space, name, target, weight)
        return View(
            (
                Stream("encoder", c.encoder, (damaged,)),
                Stream("decoder", c.decoder, (inputs,), "causal", "encoder", readouts=(readout,)),
            )
        )

    def _damaged(self, segment: Segment, chosen_BN: torch.Tensor, draw_BN: torch.Tensor) -> Segment:
        """Return the rows with their chosen tokens masked, or replaced by others of the row."""
        values = segment.values
        if self.config.damage == "hide":
            return replace(segment, masked=chosen_BN)
        other = gather(values, (draw_BN * values.shape[1]).long())
        chosen = chosen_BN.view(*chosen_BN.shape, *[1] * (values.ndim - 2))
        return replace(segment, values=torch.where(chosen, other, values))
