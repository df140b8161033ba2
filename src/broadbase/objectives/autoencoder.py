"""Autoencoding: a decoder reconstructs a record from what the connector lets through.

With a quantised connector this is a VQ-VAE (van den Oord et al. 2017, eq. 3), whose encoder then
is a tokenizer: patches of images, frames of sound and tubes of video become ids.

Legend: B rows, N tokens, S tokens of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.objectives.masks import gather, scatter_mask
from broadbase.objectives.scoring import PerSource


class AutoencoderConfig(ObjectiveConfig):
    """Reconstruct every token of a record from all of them, through a connector."""

    name: Literal["autoencoder"] = "autoencoder"
    encoder: TowerName = "encoder"
    """The tower that reads the record. A connector joins it to the decoder."""
    decoder: TowerName = "decoder"
    """The tower that reconstructs the record."""
    target: str = "pixels"
    """The head of the decoder that predicts the record."""

    def build(self) -> Objective:
        """Return the objective."""
        return Autoencoder(self)


@dataclass(frozen=True)
class Autoencoder(PerSource):
    """Two streams for each source, of the S tokens that are targets.

    The start value is left out: it carries no information and would cost a code.
    """

    config: AutoencoderConfig

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return the encoder's and the decoder's stream; ConfigError if the values are ids."""
        c, values, weight_BN = self.config, segment.values, segment.target_weight
        if values.ndim != 3:
            raise ConfigError(
                f"objective 'autoencoder' reconstructs vectors, and {segment.space!r} holds ids;"
                " use masked"
            )
        index_BS = _target_index(weight_BN)
        weight_BS = weight_BN.gather(1, index_BS)
        inputs = scatter_mask(segment, segment.space, index_BS, weight_BS > 0)
        encoded = inputs.through("encoder")
        readout = Score(c.target, name, gather(values, index_BS), weight_BS)
        return View(
            (
                Stream("encoder", c.encoder, (inputs,)),
                Stream("decoder", c.decoder, (encoded,), readouts=(readout,)),
            )
        )


def _target_index(weight_BN: Tensor) -> Tensor:
    """Return the index of each row's targets in order, padded with other tokens: [B,S].

    S is the number of targets of the row with the most.
    """
    is_target_BN = weight_BN > 0
    most = int(is_target_BN.sum(dim=1).max())
    return (~is_target_BN).int().argsort(dim=1, stable=True)[:, :most]
