"""Pictures of any size and mode, resized for a tower by the published settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from broadbase.core.errors import DataError

MODES = {1: "L", 3: "RGB"}
THIN = 20  # times as long as wide: more is not resized
LARGEST = 1 << 28  # pixels of a square
SETTINGS = "preprocessor_config.json"


@dataclass(frozen=True)
class Resizing:
    """The steps of CLIP's processor: colours, padding to a square, resizing, a centre crop.

    If the settings end at another size than the tower's, the sizes in between are changed in
    proportion: as much of the picture is seen, and no position is interpolated.
    """

    size: int  # of the resulting square, in pixels
    channels: int
    edge: int  # the length of the shorter edge before the crop
    squeeze: bool  # whether the other edge gets the same length, whatever the proportions
    resample: Image.Resampling
    colour: tuple[int, ...] | None = None  # of the padding to a square; None: no padding

    @classmethod
    def read(
        cls, settings: Mapping[str, Any], size: int, channels: int, resample: Image.Resampling
    ) -> Resizing:
        """Return the steps of a preprocessor_config.json; DataError if one is not supported."""
        try:
            first, crops = settings.get("size", size), bool(settings.get("do_center_crop", False))
            squeeze = not crops  # if the size is one number, as in old files
            if isinstance(first, Mapping):
                squeeze, first = "shortest_edge" not in first, first.get("shortest_edge", first)
            edge = _square(first, "size")
            end = _square(settings.get("crop_size", edge), "crop_size") if crops else edge
            if not 0 < edge <= THIN * end:
                raise DataError(f"{SETTINGS}: size={edge} and crop_size={end} do not fit together")
            if not (squeeze or crops) or not settings.get("do_resize", True):
                raise DataError(f"{SETTINGS} gives no square of one size, and the tower takes one")
            if not 0 < edge * size / end < THIN * size:
                raise DataError(f"{SETTINGS} resizes to {edge} and crops to {end}; copy it again")
            mean = settings["image_mean"] if settings.get("do_pad", False) else None
            return cls(
                size,
                channels,
                round(edge * size / end),
                squeeze,
                Image.Resampling(settings.get("resample", resample)),
                None if mean is None else tuple(int(255 * part) for part in mean),
            )
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{SETTINGS} is not as published: {error!r}; copy it again") from None

    def __call__(self, image: Image.Image) -> NDArray[np.float64]:
        """Return numbers from 0 to 255 as [size,size,channels]."""
        image = opaque(image).convert(MODES[self.channels])
        if self.colour is not None:
            image = _framed(image, self.colour)
        if not self.squeeze:
            image = _middle(image)
        short = min(image.size)
        width, height = (self.edge if self.squeeze else self.edge * n // short for n in image.size)
        image = image.resize((width, height), self.resample)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        return np.asarray(image, np.float64).reshape(self.size, self.size, self.channels)


def opaque(image: Image.Image) -> Image.Image:
    """Put what is transparent on white; ValueError if a channel has more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"a picture of mode {image.mode}; bring it to 8 bits a channel first")
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _middle(image: Image.Image) -> Image.Image:
    """Cut the ends of a thin picture, which no crop to a square would keep."""
    over = [max(0, n - THIN * min(image.size)) // 2 for n in image.size]
    return image.crop((over[0], over[1], image.width - over[0], image.height - over[1]))


def _framed(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Put a picture in the middle of a square of its longer edge."""
    side = max(image.size)
    if side * side > LARGEST:
        raise ValueError(
            f"{image.width} x {image.height} pixels: too thin to be put into a square; crop it"
        )
    square = Image.new(image.mode, (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _square(size: Any, name: str) -> int:
    """Return the length of both edges; DataError if they differ."""
    if not isinstance(size, Mapping):
        return int(size)
    if size["height"] != size["width"]:
        raise DataError(f"{SETTINGS}: {name}={size} is no square, and the tower takes one")
    return int(size["height"])
