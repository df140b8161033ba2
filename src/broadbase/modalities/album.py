"""Albums: any number of pictures in a row, one token each.

Legend: n pictures, K = size * size * channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """Square pictures of one size, each of them one token."""

    name: Literal["album"] = "album"
    size: Annotated[int, Field(ge=1)] = 8
    """The height and width of a picture, in pixels."""
    channels: Annotated[int, Field(ge=1)] = 1
    """The channels of a pixel."""
    levels: Annotated[int, Field(ge=2, le=256)] = 17
    """The steps to which a channel is quantised."""

    @property
    def picture(self) -> ImageConfig:
        """The settings of one picture: an image that is one patch."""
        return ImageConfig(
            height=self.size,
            width=self.size,
            patch=self.size,
            channels=self.channels,
            levels=self.levels,
        )

    @property
    def vector_size(self) -> int:
        """The numbers of a picture."""
        return self.picture.vector_size

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return AlbumCodec(self)

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return AlbumCodec(self)

    def space(self, width: int) -> QuantizedVector:
        """Return the embedder and head of a picture's K numbers."""
        return self.picture.space(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks vectors."""
        return Hide()


class AlbumCodec(Codec):
    """Pixels in [0, 1], quantised to `levels`, as [n,K]."""

    unit = "pixel"

    def __init__(self, config: AlbumConfig) -> None:
        self.config, self.picture = config, config.picture.fit([])
        self.start = self.picture.start

    def encode(self, raw: Any) -> Sample:
        """Encode a sequence of one or more pictures, each of a kind that `image` encodes."""
        if not isinstance(raw, Sequence | np.ndarray):
            raise ValueError(f"expected a sequence of pictures, got {type(raw).__name__}")
        if not len(raw):
            raise ValueError("an album without a picture")
        samples = [self.picture.encode(picture) for picture in raw]
        values = np.concatenate([sample.values for sample in samples])
        return Sample(values, (len(values),), sum(sample.units for sample in samples))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the pictures as [n,size,size,channels]."""
        c = self.config
        return np.asarray(values, np.float32).reshape(-1, c.size, c.size, c.channels)

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""
