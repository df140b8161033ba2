"""Autoencoding: a decoder tells all of a record from what the connector lets through.

With a quantised connector this is a VQ-VAE (van den Oord et al. 2017, eq. 3), whose encoder then
is a tokenizer: patches of pictures, frames of sound and tubes of video alike become ids.

Legend: B rows, N places, S places of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.objectives.masks import gather, scatter_mask
from broadbase.objectives.scoring import ReadoutLoss


class AutoencoderConfig(ObjectiveConfig):
    """Tell every place of a record from all of it, through a connector."""

    name: Literal["autoencoder"] = "autoencoder"
    encoder: TowerName = "encoder"  # towers, joined by a connector
    decoder: TowerName = "decoder"
    target: str = "pixels"  # the head of the decoder that predicts the record

    def build(self) -> Objective:
        return Autoencoder(self)


class Autoencoder(ReadoutLoss):
    """Two streams a source, of the S places that are targets: no start value, which tells nothing
    but would be a code more to tell it by."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, segment) for name, segment in batch.segments.items())

    def _view(self, name: str, segment: Segment) -> View:
        c, values, weight_BN = self.config, segment.values, segment.loss_weight
        assert values is not None
        assert weight_BN is not None
        if values.ndim != 3:
            raise ConfigError(
                f"an autoencoder tells vectors, and {segment.space!r} holds ids; use masked"
            )
        index_BS = _countable(weight_BN)
        weight_BS = weight_BN.gather(1, index_BS)
        seen = scatter_mask(segment, segment.space, index_BS, weight_BS > 0)
        whole = Segment("@encoder", None, seen.position, None, seen.document)
        read = Readout(c.target, name, gather(values, index_BS), weight_BS)
        return View(
            (
                Stream("encoder", c.encoder, (seen,)),
                Stream("decoder", c.decoder, (whole,), readouts=(read,)),
            )
        )


def _countable(weight_BN: Tensor) -> Tensor:
    """The targets of each row, in order, then others up to the number of the row with the most."""
    countable_BN = weight_BN > 0
    most = int(countable_BN.sum(dim=1).max())
    return (~countable_BN).int().argsort(dim=1, stable=True)[:, :most]
