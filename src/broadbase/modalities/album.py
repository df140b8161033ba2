"""Albums: pictures in a row, any number of them, a place each.

Legend: n pictures, K = size * size * channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.quantized import QuantizedVector


class AlbumConfig(ModalityConfig):
    """Square pictures of one size, each whole."""

    name: Literal["album"] = "album"
    size: Annotated[int, Field(ge=1)] = 8
    channels: Annotated[int, Field(ge=1)] = 1
    levels: Annotated[int, Field(ge=2, le=256)] = 17

    @property
    def picture(self) -> ImageConfig:
        """One of them, as an image that is one patch."""
        return ImageConfig(
            height=self.size,
            width=self.size,
            patch=self.size,
            channels=self.channels,
            levels=self.levels,
        )

    def fit(self, records: Iterable[Any]) -> Codec:
        return AlbumCodec(self)

    def load(self, folder: Path) -> Codec:
        return AlbumCodec(self)

    def space(self, width: int) -> QuantizedVector:
        return self.picture.space(width)

    def corruption(self) -> Corruption:
        return Hide()


class AlbumCodec(Codec):
    """Pixels in [0, 1], quantised to `levels`, as [n,K]."""

    unit = "pixel"

    def __init__(self, config: AlbumConfig) -> None:
        self.config, self.picture = config, config.picture.fit([])
        self.start = self.picture.start

    def encode(self, raw: Any) -> Sample:
        """Takes a sequence of what `image` takes, at least one."""
        if not len(raw):
            raise ValueError("an album without a picture")
        samples = [self.picture.encode(picture) for picture in raw]
        values = np.concatenate([sample.values for sample in samples])
        return Sample(values, (len(values),), sum(sample.units for sample in samples))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        c = self.config
        return np.asarray(values, np.float32).reshape(-1, c.size, c.size, c.channels)

    def save(self, folder: Path) -> None:
        """Nothing to keep: the config says all."""
