"""Pictures as published encoders read them: resized, normalised, cut into patches.

Legend: R rows and C columns of patches, K = patch * patch * channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.errors import DataError
from broadbase.core.files import read_json
from broadbase.modalities.crops import Crops, CropsConfig
from broadbase.modalities.resizing import MODES, SETTINGS, Resizing
from broadbase.nn.spaces.patches import START, Patches, PatchesConfig

PROCESSOR = "processor_config.json"  # of all codecs of a folder
Edge = Annotated[int, Field(ge=1, le=1 << 20)]  # pixels


class PublishedImageConfig(ModalityConfig):
    """Square pictures of one size, normalised as a published encoder expects."""

    name: Literal["published_image"] = "published_image"
    size: Annotated[int, Field(ge=1)]
    """The height and width of a picture, in pixels."""
    patch: Annotated[int, Field(ge=1)]
    """The height and width of a patch, in pixels."""
    channels: Annotated[int, Field(ge=1)] = 3
    """The channels of a pixel."""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """The number that is subtracted from each channel, which is between 0 and 1."""
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    """The number that each channel is then divided by."""
    resample: Literal["bilinear", "bicubic"] = "bicubic"
    """The filter that resizes pictures."""
    start: bool = True
    """Whether a class token comes first."""
    bias: bool = True
    """Whether the embedding of patches has a bias."""
    crops: CropsConfig = CropsConfig()
    """How crops differ from the picture, for objectives that compare crops."""

    @property
    def record_length(self) -> int:
        """The tokens of every picture, with the start."""
        return 1 + (self.size // self.patch) ** 2

    @property
    def vector_size(self) -> int:
        """The numbers of a patch."""
        return self.patch * self.patch * self.channels

    def conversions(self, raw: Any) -> tuple[str, ...]:
        """Return the changes of a picture's mode and size."""
        if not isinstance(raw, Image.Image):
            return ()
        mode, size = MODES[self.channels], (self.size, self.size)
        changed = (f"{raw.mode} to {mode}",) if raw.mode != mode else ()
        return (
            changed
            if raw.size == size
            else (*changed, f"a size other than {self.size} x {self.size} pixels")
        )

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec that resizes a picture to the square, whatever its proportions."""
        return PublishedImageCodec(self, self.settings)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The same settings as the fields of a preprocessor_config.json."""
        return {
            "image_processor_type": "ViTImageProcessor",
            "do_convert_rgb": self.channels == 3,
            "do_resize": True,
            "size": {"height": self.size, "width": self.size},
            "resample": int(Image.Resampling[self.resample.upper()]),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.deviation),
        }

    def load(self, folder: Path) -> Codec:
        """Return the codec of processor_config.json or preprocessor_config.json.

        If the folder has neither, pictures are resized to the square, whatever their proportions.
        """
        return PublishedImageCodec(self, _settings(folder))

    def space(self, width: int) -> Patches:
        """Return the embedder of patches."""
        config = PatchesConfig(channels=self.vector_size, start=self.start, bias=self.bias)
        return config.build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks patches and makes crops."""
        side = self.size // self.patch
        return Crops(
            config=self.crops,
            rows=side,
            columns=side,
            patch=self.patch,
            mean=self.mean,
            deviation=self.deviation,
        )


class PublishedImageCodec(Codec):
    """Encodes a picture as normalised patches [R*C,K]."""

    unit = "pixel"

    def __init__(self, config: PublishedImageConfig, settings: Mapping[str, Any]) -> None:
        self.config, self.has_bos, self.settings = config, config.start, settings
        resample = Image.Resampling[config.resample.upper()]
        self.resized = Resizing.read(settings, config.size, config.channels, resample)
        normal, scaled = settings.get("do_normalize", True), settings.get("do_rescale", True)
        self.mean = np.array(settings.get("image_mean", config.mean) if normal else 0.0)
        self.deviation = np.array(settings.get("image_std", config.deviation) if normal else 1.0)
        for name, value in (("image_mean", self.mean), ("image_std", self.deviation)):
            if value.shape not in ((), (config.channels,)) or value.dtype.kind not in "fi":
                raise DataError(f"{SETTINGS}: {name} is not {config.channels} numbers")
        self.scale = settings.get("rescale_factor", 1 / 255) if scaled else 1.0
        self.start = np.full(config.vector_size, START, dtype=np.float32)

    def encode(self, raw: Any) -> Sample:
        """Encode a PIL image, uint8 [H,W,N] of any size, or floats in [0, 1] [size,size,N].

        N is the number of channels; one channel needs no axis.
        """
        c, side = self.config, self.config.size // self.config.patch
        if isinstance(raw, np.ndarray) and raw.ndim == 2 and c.channels == 1:
            raw = raw[..., None]
        if isinstance(raw, np.ndarray) and raw.dtype == np.uint8 and raw.shape[2:] == (c.channels,):
            raw = Image.fromarray(raw if c.channels > 1 else raw[..., 0])
        if isinstance(raw, Image.Image):
            pixels = self.resized(raw) * self.scale
        elif isinstance(raw, np.ndarray) and raw.shape == (c.size, c.size, c.channels):
            pixels = raw.astype(np.float64)
        else:
            got = raw.shape if isinstance(raw, np.ndarray) else type(raw).__name__
            wanted = (c.size, c.size, c.channels)
            raise ValueError(f"expected an image, or an array of {wanted}; got {got}")
        normal = (pixels - self.mean) / self.deviation
        patches = normal.reshape(side, c.patch, side, c.patch, c.channels).transpose(0, 2, 1, 3, 4)
        values = patches.reshape(side * side, -1).astype(np.float32)
        return Sample(values, (side, side), c.size * c.size * c.channels)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the pixels in [0, 1] as [size,size,channels]."""
        c, (rows, columns) = self.config, grid
        patches = values.reshape(rows, columns, c.patch, c.patch, c.channels)
        normal = patches.transpose(0, 2, 1, 3, 4).reshape(c.size, c.size, c.channels)
        pixels: NDArray[np.float32] = normal * self.deviation + self.mean
        return pixels.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the settings that were read as preprocessor_config.json, if there were any."""
        if self.settings:
            (folder / SETTINGS).write_text(json.dumps(dict(self.settings), indent=2))


class _Published(BaseModel):
    """The fields of a preprocessor_config.json that are read, with their types."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    do_center_crop: bool | None = None
    do_normalize: bool | None = None
    do_pad: bool | None = None
    do_rescale: bool | None = None
    do_resize: bool | None = None
    image_mean: list[float] | None = None
    image_std: list[Annotated[float, Field(gt=0)]] | None = None
    rescale_factor: Annotated[float, Field(gt=0)] = 1 / 255
    size: Edge | dict[str, Edge | None] | None = None
    crop_size: Edge | dict[str, Edge | None] | None = None


def _settings(folder: Path) -> Mapping[str, Any]:
    """Return the picture settings of a published folder; empty if it has no such file."""
    for name in (PROCESSOR, SETTINGS):
        if not (folder / name).exists():
            continue
        tree = read_json(folder / name)
        settings = tree.get("image_processor") if name == PROCESSOR else tree
        if settings:
            try:
                _Published.model_validate(settings)
            except ValidationError as error:
                first = error.errors()[0]
                raise DataError(
                    f"{folder / name}: field `{'.'.join(map(str, first['loc']))}`: {first['msg']};"
                    " copy it again"
                ) from None
            return dict(settings)
    return {}
