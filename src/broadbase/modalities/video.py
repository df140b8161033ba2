"""Video as tubelets: cubes of time and plane, N channels (Tong et al. 2022, VideoMAE).

Legend: T times, R rows and C columns of tubelets, K = tubelet * patch * patch * channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.quantized import QuantizedVector, QuantizedVectorConfig


class VideoConfig(ModalityConfig):
    """Clips of one length and size, cut into tubelets."""

    name: Literal["video"] = "video"
    frames: Annotated[int, Field(ge=1)] = 8
    """The frames of a clip."""
    height: Annotated[int, Field(ge=1)] = 64
    """The height of a frame, in pixels."""
    width: Annotated[int, Field(ge=1)] = 64
    """The width of a frame, in pixels."""
    channels: Annotated[int, Field(ge=1)] = 3
    """The channels of a pixel."""
    tubelet: Annotated[int, Field(ge=1)] = 2
    """The frames of a tubelet; it divides those of a clip."""
    patch: Annotated[int, Field(ge=1)] = 8
    """The height and width of a tubelet, in pixels; it divides those of a frame."""
    levels: Annotated[int, Field(ge=2, le=256)] = 16
    """The steps to which a channel is quantised."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.frames % self.tubelet or self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"tubelets of {self.tubelet} x {self.patch} x {self.patch} do not divide"
                f" {self.frames} x {self.height} x {self.width}; choose ones that do"
            )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """The times, rows and columns of a clip's tubelets."""
        return (
            self.frames // self.tubelet, self.height // self.patch, self.width // self.patch
        )  # fmt: skip

    @property
    def record_length(self) -> int:
        """The tokens of every clip, with the start."""
        return 1 + math.prod(self.grid)

    @property
    def vector_size(self) -> int:
        """The numbers of a tubelet."""
        return self.tubelet * self.patch * self.patch * self.channels

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return VideoCodec(self)

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return VideoCodec(self)

    def space(self, width: int) -> QuantizedVector:
        """Return the embedder and head of a tubelet's K numbers."""
        return QuantizedVectorConfig(channels=self.vector_size, levels=self.levels).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks vectors."""
        return Hide()


class VideoCodec(Codec):
    """Pixels in [0, 1], quantised to `levels`, as [T*R*C, K]."""

    unit = "pixel"

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self.start = np.full(config.vector_size, -1.0, dtype=np.float32)  # no clip holds this

    def encode(self, raw: Any) -> Sample:
        """Encode uint8 [frames,height,width,channels], or floats in [0, 1] of that shape."""
        c, (T, R, C) = self.config, self.config.grid
        steps = np.round(self._pixels(raw) * (c.levels - 1)) / (c.levels - 1)
        cubes = steps.reshape(T, c.tubelet, R, c.patch, C, c.patch, c.channels)
        values = cubes.transpose(0, 2, 4, 1, 3, 5, 6).reshape(T * R * C, c.vector_size)
        return Sample(values.astype(np.float32), (T, R, C), steps.size)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the pixels as [frames,height,width,channels]."""
        c = self.config
        cubes = values.reshape(*grid, c.tubelet, c.patch, c.patch, c.channels)
        return cubes.transpose(0, 3, 1, 4, 2, 5, 6).reshape(c.frames, c.height, c.width, c.channels)

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""

    def _pixels(self, raw: Any) -> NDArray[np.float64]:
        c = self.config
        if not isinstance(raw, np.ndarray):
            raise ValueError(f"expected a clip as an array, got {type(raw).__name__}")
        if raw.shape != (wanted := (c.frames, c.height, c.width, c.channels)):
            raise ValueError(
                f"expected an array of {wanted} (frames, height, width, channels), got {raw.shape}"
            )
        pixels = raw / 255.0 if raw.dtype == np.uint8 else raw.astype(np.float64)
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise ValueError("pixels must be finite and within [0, 1] (or uint8)")
        return pixels
