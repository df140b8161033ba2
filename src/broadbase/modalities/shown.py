"""Generated arrays as what people look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from broadbase.core.errors import ConfigError


def as_image(pixels: np.ndarray[Any, Any]) -> Image.Image:
    """Return an array [H,W,C] of [0, 1] as an image of grey or of colours.

    ConfigError of other arrays.
    """
    if pixels.ndim != 3:
        raise ConfigError(
            f"only texts and images can be written, and this base generated an array"
            f" {pixels.shape}; in Python, Base.generate returns it"
        )
    shown = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown[..., :3])
