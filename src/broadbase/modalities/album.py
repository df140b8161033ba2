"""Albums: pictures in a row, any number of them, a place each.

Legend: n pictures, K = height * width * channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from broadbase.core.contracts import Codec, Corruption, Sample
from broadbase.modalities.image import ImageCodec, ImageConfig
from broadbase.modalities.noise import Hide


class AlbumConfig(ImageConfig):
    """Pictures of one size, each whole: the patch is as large."""

    name: Literal["album"] = "album"
    height: int = 8
    width: int = 8
    channels: int = 1
    levels: int = 17

    def fit(self, records: Iterable[Any]) -> Codec:
        return AlbumCodec(self)

    def load(self, folder: Path) -> Codec:
        return AlbumCodec(self)

    def corruption(self) -> Corruption:
        return Hide()


class AlbumCodec(ImageCodec):
    """Pixels in [0, 1], quantised to `levels`, as [n,K]."""

    def encode(self, raw: Any) -> Sample:
        """Takes pictures as `image` takes them, at least one."""
        if not len(raw):
            raise ValueError("an album without a picture")
        samples = [super(AlbumCodec, self).encode(picture) for picture in raw]
        values = np.concatenate([sample.values for sample in samples])
        return Sample(values, (len(values),), sum(sample.units for sample in samples))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        c = self.config
        return np.asarray(values, np.float32).reshape(-1, c.height, c.width, c.channels)
