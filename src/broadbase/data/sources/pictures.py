"""One picture from a file's bytes: decoded in full, or refused; no colour is guessed."""

from __future__ import annotations

import warnings
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from broadbase.core.sources import Record, Reject
from broadbase.data.sources import integrity

PIXELS = 64  # megapixels that a picture may have
ORIENTATION = 0x0112  # the EXIF tag
DEEP = {"I;16", "I;16B", "I;16L", "I;16N", "I"}  # greys of 16 bits; Pillow cuts them off at 255


def picture(
    origin: str, file: IO[bytes], limit: int = PIXELS, label: str | None = None
) -> Record | Reject:
    """Return a picture of at most `limit` megapixels.

    Which its header tells before it is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd remarks in headers
            with Image.open(file) as image:
                width, height = image.size
                if width * height > limit * 1_000_000:
                    return Reject(
                        origin,
                        f"{width} x {height} pixels, more than {limit} megapixels; shrink it, or"
                        " raise the source's `limit`",
                    )
                if image.format == "PNG":
                    at = file.tell()
                    integrity.check_png(file)
                    file.seek(at)
                deep = _cut_to_eight_bits(image)
                frames = getattr(image, "n_frames", 1)
                image.load()
                turned = image.getexif().get(ORIENTATION, 1) != 1
                pixels, converted = _eight_bits(ImageOps.exif_transpose(image))
                converted += (
                    ["16 bits to 8"] * deep
                    + ["turned upright"] * turned
                    + ["several frames to 1"] * (frames > 1)
                )
                return Record(pixels, origin, label, converted=tuple(converted))
    except UnidentifiedImageError:
        return Reject(origin, "not an image that Pillow can read")
    except Image.DecompressionBombError as error:  # from the header too, above Pillow's limit
        return Reject(origin, f"too large to decode: {error}; shrink it")
    except Exception as error:  # Pillow raises almost any kind on damaged bytes
        return Reject(origin, f"damaged image: {error}")


def _eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return the picture with 8 bits a channel, and what was changed for it.

    Raise ValueError where unknown.
    """
    if image.mode in DEEP:
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65_535:
            raise ValueError(f"greys from {pixels.min()} to {pixels.max()}, not of 16 bits")
        return Image.fromarray((pixels // 257).astype(np.uint8)), ["16 bits to 8"]
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB"), ["palette to RGB"]
    if image.mode == "F":
        raise ValueError("greys as floats, whose range is not known; save them in 8 or 16 bits")
    return image, []


def _cut_to_eight_bits(image: Image.Image) -> bool:
    """Return whether Pillow is about to keep 8 of 16 bits of colours.

    By what its decoder is given.
    """
    args = [tile.args for tile in getattr(image, "tile", [])]
    parts = [part for each in args for part in (each if isinstance(each, tuple) else (each,))]
    deep = any(";16" in part for part in parts if isinstance(part, str))
    most = max([part for part in parts if isinstance(part, int)], default=0)
    return image.mode not in DEEP and (deep or (image.format == "PPM" and most > 255))
