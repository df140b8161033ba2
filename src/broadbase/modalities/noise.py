"""Corruptions: what it means to mask a value. Legend: B batch, N tokens, K channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from broadbase.core.codec import Codec
from broadbase.core.contracts import Boundaries, Corruption, ModalityConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom


class NoCrops:
    """The corruption of records without crops."""

    def crop(
        self, values: Tensor, scale: float, area: tuple[float, float], draws: KeyedRandom, name: str
    ) -> tuple[Tensor, Tensor]:
        """Raise ConfigError."""
        raise ConfigError("this objective compares crops of a record, and only pictures have them")


@dataclass(frozen=True)
class MaskOrSwap(NoCrops):
    """Most of the chosen ids are masked, some swapped, some kept (Devlin et al. 2019, 3.1)."""

    vocab_size: int
    hide: float = 0.8  # fraction that is masked
    swap: float = 0.1  # fraction that is replaced by other ids
    extra_ids: int = 0  # ids after the vocabulary
    units: Mapping[str, Boundaries] = field(default_factory=dict)

    @property
    def sentinels(self) -> range:
        """The ids that no record holds."""
        return range(self.vocab_size, self.vocab_size + self.extra_ids)

    def noise(self, values: Tensor, chosen: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return values [B,N] with some of the chosen swapped, and which are masked [B,N]."""
        hidden = chosen & (draws < self.hide)
        swapped = chosen & ~hidden & (draws < self.hide + self.swap)
        fraction = ((draws - self.hide) / self.swap).clamp(0, 1 - 1e-9)
        return torch.where(swapped, (fraction * self.vocab_size).to(values.dtype), values), hidden


@dataclass(frozen=True)
class Hide(NoCrops):
    """All chosen vectors are masked (He et al. 2022, masked autoencoders)."""

    sentinels: range = range(0)
    units: Mapping[str, Boundaries] = field(default_factory=dict)

    def noise(self, values: Tensor, chosen: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values [B,N,K] as they are, and that the chosen [B,N] are masked."""
        return values, chosen


def corruptions(
    modalities: Mapping[str, ModalityConfig], codecs: Mapping[str, Codec]
) -> dict[str, Corruption]:
    """Return the corruption of every modality, with the units of its codec if it has one."""
    return {
        name: m.corruption_of(codecs[name]) if name in codecs else m.corruption()
        for name, m in modalities.items()
    }
