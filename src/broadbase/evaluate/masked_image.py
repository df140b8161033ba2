"""Masked patches of held-out images: squared error against bilinear interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import griddata

from broadbase.core.view import positions
from broadbase.evaluate.masked_errors import Filler, MaskedErrors, MaskedRecord, Values
from broadbase.evaluate.registry import Measure
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig

IMAGES = 300  # the most held-out images that are evaluated


@dataclass(frozen=True)
class ImageFiller(Filler):
    """Bilinear interpolation and the mean of the visible pixels."""

    image: ImageConfig | PublishedImageConfig

    def fill(self, record: MaskedRecord) -> Mapping[str, Values]:
        """Return the masked patches [S,K] by baseline."""
        filled = bilinear(
            record.visible,
            record.visible_at[:, 1:],
            record.masked_at[:, 1:],
            self.image.patch,
            self.image.channels,
        )
        mean = np.full_like(filled, float(record.visible.mean()))
        return {"bilinear interpolation": filled, "mean of visible pixels": mean}


def bilinear(
    visible: Values, visible_at: Values, masked_at: Values, patch: int, channels: int
) -> Values:
    """Fill masked patches [S,K] from the pixels of the visible ones [V,K] around them.

    `visible_at` [V,2] and `masked_at` [S,2] are rows and columns of patches. Linear between the
    nearest visible pixels (on their Delaunay triangles), the nearest pixel outside.
    """
    offsets = positions((patch, patch)).numpy()[:, 1:]
    points = (visible_at[:, None] * patch + offsets).reshape(-1, 2)
    targets = (masked_at[:, None] * patch + offsets).reshape(-1, 2)
    pixels = visible.reshape(-1, channels)
    linear = griddata(points, pixels, targets, method="linear")
    nearest = griddata(points, pixels, targets, method="nearest")
    filled: Values = np.where(np.isnan(linear), nearest, linear)
    return filled.reshape(len(masked_at), -1)


MEASURE = Measure(
    (MaskedAutoencoderConfig,),
    MaskedErrors(ImageFiller, records=IMAGES, key_stride=64),
    modalities=(ImageConfig, PublishedImageConfig),
)
