"""Pixels: what a masked autoencoder's decoder tells; no source of data is of this modality."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.regression import Regression, RegressionConfig


class PixelsConfig(ModalityConfig):
    """The patches of a picture as targets of a regression."""

    name: Literal["pixels"] = "pixels"
    channels: Annotated[int, Field(ge=1)]  # of a patch: patch * patch * the picture's channels
    normalise: bool = True

    def space(self, width: int) -> Regression:
        return RegressionConfig(channels=self.channels, normalise=self.normalise).build(width)

    def corruption(self) -> Corruption:
        return Hide()
