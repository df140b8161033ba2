"""Prototypes: what self-distillation assigns records to; no source of data is of this modality."""

from __future__ import annotations

from typing import Literal

from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.prototypes import Prototypes
from broadbase.nn.spaces.prototypes import PrototypesConfig as PrototypesSpaceConfig


class PrototypesConfig(PrototypesSpaceConfig, ModalityConfig):
    """The head that a student and its teacher both have."""

    name: Literal["prototypes"] = "prototypes"

    def space(self, width: int) -> Prototypes:
        return Prototypes(self, width)

    def corruption(self) -> Corruption:
        return Hide()
