"""Images as patches: N channels, any size that the patch divides.

Legend: R rows and C columns of patches, K = patch * patch * channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.crops import Crops, CropsConfig
from broadbase.modalities.resizing import opaque
from broadbase.nn.spaces.quantized import QuantizedVector, QuantizedVectorConfig

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageConfig(ModalityConfig):
    """Still images of one size (others are resized), cut into square patches."""

    name: Literal["image"] = "image"
    height: Annotated[int, Field(ge=1)] = 64
    """The height of an image, in pixels."""
    width: Annotated[int, Field(ge=1)] = 64
    """The width of an image, in pixels."""
    channels: Annotated[int, Field(ge=1)] = 3
    """The channels of a pixel; arrays may have any number, pictures 1, 3 or 4."""
    patch: Annotated[int, Field(ge=1)] = 8
    """The height and width of a patch, in pixels; it divides those of an image."""
    levels: Annotated[int, Field(ge=2, le=256)] = 16
    """The steps to which a channel is quantised."""
    crops: CropsConfig = CropsConfig()
    """How crops differ from the image, for objectives that compare crops."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"patch {self.patch} does not divide {self.height} x {self.width}; choose one"
                " that does"
            )
        return self

    @property
    def record_length(self) -> int:
        """The tokens of every image, with the start."""
        return 1 + (self.height // self.patch) * (self.width // self.patch)

    @property
    def vector_size(self) -> int:
        """The numbers of a patch."""
        return self.patch * self.patch * self.channels

    def conversions(self, raw: Any) -> tuple[str, ...]:
        """Return the changes of a picture's mode and size."""
        if not isinstance(raw, Image.Image) or self.channels not in MODES:
            return ()
        mode, size = MODES[self.channels], (self.width, self.height)
        changed = (f"{raw.mode} to {mode}",) if raw.mode != mode else ()
        return (
            changed
            if raw.size == size
            else (*changed, f"a size other than {size[0]} x {size[1]} pixels")
        )

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return ImageCodec(self)

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return ImageCodec(self)

    def space(self, width: int) -> QuantizedVector:
        """Return the embedder and head of a patch's K numbers."""
        return QuantizedVectorConfig(channels=self.vector_size, levels=self.levels).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks patches and makes crops."""
        return Crops(
            config=self.crops,
            rows=self.height // self.patch,
            columns=self.width // self.patch,
            patch=self.patch,
        )


class ImageCodec(Codec):
    """Pixels in [0, 1], quantised to `levels`, as [R*C, K]."""

    unit = "pixel"

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self.start = np.full(config.vector_size, -1.0, dtype=np.float32)  # no image holds this
        self.grid = (config.height // config.patch, config.width // config.patch)  # of every image

    def encode(self, raw: Any) -> Sample:
        """Encode a PIL image, uint8 [H,W] or [H,W,N], or floats in [0, 1] of these shapes."""
        c = self.config
        pixels = self._pixels(raw)
        steps = np.round(pixels * (c.levels - 1)) / (c.levels - 1)
        (rows, columns), p = self.grid, c.patch
        patches = steps.reshape(rows, p, columns, p, c.channels).transpose(0, 2, 1, 3, 4)
        values = patches.reshape(rows * columns, -1).astype(np.float32)
        return Sample(values, self.grid, c.height * c.width * c.channels)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the pixels as [height,width,channels]."""
        c, (rows, columns) = self.config, grid
        patches = values.reshape(rows, columns, c.patch, c.patch, c.channels)
        return patches.transpose(0, 2, 1, 3, 4).reshape(c.height, c.width, c.channels)

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""

    def _pixels(self, raw: Any) -> NDArray[np.float64]:
        c = self.config
        if isinstance(raw, Image.Image):
            if c.channels not in MODES:
                raise ValueError(f"a picture has no {c.channels} channels; give an array")
            shown = raw if c.channels == len("RGBA") else opaque(raw)
            raw = np.asarray(shown.convert(MODES[c.channels]).resize((c.width, c.height)))
        if not isinstance(raw, np.ndarray):
            raise ValueError(f"expected an image or an array, got {type(raw).__name__}")
        pixels = raw / 255.0 if raw.dtype == np.uint8 else raw.astype(np.float64)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.shape != (c.height, c.width, c.channels):
            wanted = (c.height, c.width, c.channels)
            raise ValueError(
                f"expected an array of {wanted} (height, width, channels), got {raw.shape}"
            )
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise ValueError("pixels must be finite and within [0, 1] (or uint8)")
        return pixels
