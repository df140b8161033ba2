"""Pictures as published encoders take them: resized, normalised, cut into patches.

Legend: R rows and C columns of patches, K = patch * patch * channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from broadbase.core.contracts import Codec, Corruption, ModalityConfig, Sample
from broadbase.modalities.noise import Hide
from broadbase.nn.patches import START, Patches, PatchesConfig

MODES = {1: "L", 3: "RGB"}


class PictureConfig(ModalityConfig):
    """Square pictures of one size, and what their numbers are normalised by."""

    name: Literal["picture"] = "picture"
    size: Annotated[int, Field(ge=1)]
    patch: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=1)] = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    start: bool = True  # whether a class token stands first
    bias: bool = True  # of the map of patches

    def load(self, folder: Path) -> Codec:
        return PictureCodec(self)

    def space(self, width: int) -> Patches:
        channels = self.patch * self.patch * self.channels
        return PatchesConfig(channels=channels, start=self.start, bias=self.bias).build(width)

    def corruption(self) -> Corruption:
        return Hide()


class PictureCodec:
    """Numbers around 0 as [R*C, K]."""

    unit = "pixel"
    end: NDArray[Any] | None = None

    def __init__(self, config: PictureConfig) -> None:
        self.config, self.begins = config, config.start
        channels = config.patch * config.patch * config.channels
        self.start = np.full(channels, START, dtype=np.float32)

    def encode(self, raw: Any) -> Sample:
        """Takes a PIL image, which is resized (bicubic), or [H,W,N] of uint8 or of [0, 1]."""
        c, side = self.config, self.config.size // self.config.patch
        if isinstance(raw, Image.Image):
            small = raw.convert(MODES[c.channels]).resize(
                (c.size, c.size), Image.Resampling.BICUBIC
            )
            raw = np.asarray(small).reshape(c.size, c.size, c.channels)
        if not isinstance(raw, np.ndarray) or raw.shape != (c.size, c.size, c.channels):
            got = raw.shape if isinstance(raw, np.ndarray) else type(raw).__name__
            wanted = (c.size, c.size, c.channels)
            raise ValueError(f"expected an image, or an array of {wanted}; got {got}")
        pixels = raw / 255.0 if raw.dtype == np.uint8 else raw.astype(np.float64)
        normal = (pixels - np.array(c.mean)) / np.array(c.deviation)
        patches = normal.reshape(side, c.patch, side, c.patch, c.channels).transpose(0, 2, 1, 3, 4)
        values = patches.reshape(side * side, -1).astype(np.float32)
        return Sample(values, (side, side), c.size * c.size * c.channels)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        c, (rows, columns) = self.config, grid
        patches = values.reshape(rows, columns, c.patch, c.patch, c.channels)
        normal = patches.transpose(0, 2, 1, 3, 4).reshape(c.size, c.size, c.channels)
        pixels: NDArray[np.float32] = normal * np.array(c.deviation) + np.array(c.mean)
        return pixels.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Nothing to keep: the config says all."""
