"""Masked patches of held-out images: squared error against bilinear interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.interpolate import griddata

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import positions
from broadbase.evaluate.masked_errors import (
    Filler,
    MaskedErrors,
    MaskedRecord,
    Values,
    masked_records,
    predicts_normalised,
)
from broadbase.evaluate.registry import Measure, without_targets
from broadbase.inference.base import Base
from broadbase.inference.documents import opening
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.nn.spaces.regression import Regression
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


@dataclass(frozen=True)
class Reconstruction:
    """A picture, what is left of it when patches are masked, and with these predicted: [H,W,C]."""

    picture: Values
    masked: Values
    filled: Values


@torch.inference_mode()
def reconstruct(
    base: Base, config: MaskedAutoencoderConfig, modality: str, raw: Any, seed: int = 0
) -> Reconstruction:
    """Mask patches of a picture as training does, by `seed`, and predict them.

    Patches that are predicted normalised get the mean and deviation of the true ones. DataError
    where `raw` is no picture.
    """
    codec = base.codecs[modality]
    segment = base.read([raw], modality=modality)
    weight = torch.ones(segment.position.shape[:2])
    weight[:, : len(opening(codec))] = 0  # the start is not masked
    batch = Batch(0, {modality: replace(segment, loss_weight=weight)}, KeyedRandom(seed, 0))
    (view,) = config.build().views(batch, {})
    predicted = base.model(without_targets(view)).predictions["p"][0].numpy()
    truth = view.scored[0].target[0].numpy()
    if predicts_normalised(base.config, config.target):
        deviation = np.sqrt(truth.var(axis=-1, keepdims=True, ddof=1) + Regression.EPSILON)
        predicted = predicted * deviation + truth.mean(axis=-1, keepdims=True)
    sample = codec.encode(raw)
    masked, filled = sample.values.copy(), sample.values.copy()
    for _, _, targets, record in masked_records(view, codec.start):
        at = record.masked_at[:, 1] * sample.grid[1] + record.masked_at[:, 2]
        masked[at], filled[at] = sample.values.mean(), predicted[targets]
    return Reconstruction(*(codec.decode(v, sample.grid) for v in (sample.values, masked, filled)))


MEASURE = Measure(
    (MaskedAutoencoderConfig,),
    MaskedErrors(ImageFiller, records=IMAGES, key_stride=64),
    modalities=(ImageConfig, PublishedImageConfig),
)
