"""Ids: what all modalities with a vocabulary share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import MaskOrSwap
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig


class IdsConfig(ModalityConfig):
    """A modality whose values are ids; a subclass says in `ids` how many there are."""

    extra_ids: Annotated[int, Field(ge=0)] = 0
    """Further ids, which no record holds; objectives mark spans and turns with them (sentinels)."""
    z_loss_coef: Annotated[float, Field(ge=0)] = 0.0
    """The coefficient of the z-loss, which keeps logits small (PaLM: 1e-4)."""

    @property
    @abstractmethod
    def ids(self) -> int:
        """The number of ids that records are made of, start and end included."""

    @property
    def id_settings(self) -> DiscreteConfig:
        """The settings of the embedder and head."""
        return DiscreteConfig(
            vocab_size=self.ids, extra_ids=self.extra_ids, z_loss_coef=self.z_loss_coef
        )

    def space(self, width: int) -> Discrete:
        """Return the embedder and head of the ids."""
        return self.id_settings.build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks or swaps ids."""
        return MaskOrSwap(self.ids, extra_ids=self.extra_ids)
