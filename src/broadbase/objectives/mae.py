"""Masked autoencoding: an encoder of what is seen, a light decoder of all (He et al. 2022).

Legend: B rows, N places, S hidden places, V = N - S seen places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.objectives.masks import MasksConfig, RandomMaskConfig, gather, scatter_mask
from broadbase.objectives.scoring import ReadoutLoss


class MaskedAutoencoderConfig(ObjectiveConfig):
    """Hide most places from the encoder altogether; the decoder tells them."""

    name: Literal["mae"] = "mae"
    encoder: TowerName = "encoder"  # towers, joined by a connector
    decoder: TowerName = "decoder"
    target: str = "pixels"  # the head of the decoder that predicts the masked positions
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    masks: MasksConfig = RandomMaskConfig()

    def build(self) -> Objective:
        return MaskedAutoencoder(self)


class MaskedAutoencoder(ReadoutLoss):
    """Two streams a source: the encoder computes V places, the loss is of the S others alone."""

    def __init__(self, config: MaskedAutoencoderConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, s, batch.rng) for name, s in batch.segments.items())

    def _view(self, name: str, segment: Segment, draws: KeyedRandom) -> View:
        c, values = self.config, segment.values
        assert values is not None
        if values.ndim != 3:
            raise ConfigError(
                f"a masked autoencoder tells vectors, and {segment.space!r} holds ids; use masked"
            )
        index_BS, weight_BS = c.masks.choose(segment, c.mask_ratio, draws, name)
        index_BS, weight_BS = _needed(index_BS, weight_BS)
        B, N = segment.position.shape[:2]
        chosen_BN = torch.zeros(B, N, dtype=torch.bool).scatter(1, index_BS, True)
        seen_BV = chosen_BN.int().argsort(dim=1, stable=True)[:, : N - index_BS.shape[1]]
        seen = scatter_mask(segment, segment.space, seen_BV)
        masked = replace(scatter_mask(segment, c.target, index_BS), values=None)
        whole = Segment("@encoder", None, seen.position, None, seen.document)
        places_BS = seen_BV.shape[1] + torch.arange(index_BS.shape[1]).expand(B, -1)
        read = Readout(c.target, name, gather(values, index_BS), weight_BS, places_BS)
        return View(
            (
                Stream("encoder", c.encoder, (seen,)),
                Stream("decoder", c.decoder, (whole, masked), readouts=(read,)),
            )
        )


def _needed(index_BS: Tensor, weight_BS: Tensor) -> tuple[Tensor, Tensor]:
    """As many places as the row with the most has: an unscored one would be hidden for nothing."""
    most = max(1, int((weight_BS > 0).sum(dim=1).max()))
    return index_BS[:, :most], weight_BS[:, :most]
