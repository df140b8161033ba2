"""Masked autoencoding: an encoder of the visible tokens, a light decoder of all (He et al. 2022).

Legend: B rows, N tokens, S masked tokens, V = N - S visible tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import MaskedSegment, Score, Segment, Stream, View
from broadbase.objectives.masks import MasksConfig, RandomMaskConfig, gather, scatter_mask
from broadbase.objectives.scoring import PerSource


class MaskedAutoencoderConfig(ObjectiveConfig):
    """Masked tokens are left out of the encoder; the decoder predicts them."""

    name: Literal["mae"] = "mae"
    encoder: TowerName = "encoder"
    """The tower that reads the visible tokens. A connector joins it to the decoder."""
    decoder: TowerName = "decoder"
    """The tower that predicts the masked tokens."""
    target: str = "pixels"
    """The head of the decoder that predicts the masked tokens."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """The share of a row's tokens that are masked."""
    masks: MasksConfig = RandomMaskConfig()
    """Which tokens are masked."""

    def build(self) -> Objective:
        """Return the objective."""
        return MaskedAutoencoder(self)


@dataclass(frozen=True)
class MaskedAutoencoder(PerSource):
    """Two streams for each source: the encoder reads V tokens, the loss is of the S others."""

    config: MaskedAutoencoderConfig

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return the encoder's and the decoder's stream; ConfigError if the values are ids."""
        c, values = self.config, segment.values
        if values.ndim != 3:
            raise ConfigError(
                f"objective 'mae' predicts vectors, and {segment.space!r} holds ids; use masked"
            )
        index_BS, weight_BS = _trimmed(*c.masks.choose(segment, c.mask_ratio, rng, name))
        B, N = segment.position.shape[:2]
        chosen_BN = torch.zeros(B, N, dtype=torch.bool).scatter(1, index_BS, True)
        visible_BV = chosen_BN.int().argsort(dim=1, stable=True)[:, : N - index_BS.shape[1]]
        visible = scatter_mask(segment, segment.space, visible_BV)
        masked = scatter_mask(segment, segment.space, index_BS)
        decoded = MaskedSegment(c.target, masked.position, None, masked.document)
        encoded = visible.through("encoder")
        masked_BS = visible_BV.shape[1] + torch.arange(index_BS.shape[1]).expand(B, -1)
        readout = Score(c.target, name, gather(values, index_BS), weight_BS, masked_BS)
        return View(
            (
                Stream("encoder", c.encoder, (visible,)),
                Stream("decoder", c.decoder, (encoded, decoded), readouts=(readout,)),
            )
        )


def _trimmed(index_BS: Tensor, weight_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many targets as the row with the most has.

    A token beyond them would be masked without being scored.
    """
    most = max(1, int((weight_BS > 0).sum(dim=1).max()))
    return index_BS[:, :most], weight_BS[:, :most]
