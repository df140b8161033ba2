"""Restoring hidden patches of held-out pictures: their squared error beside bilinear filling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import griddata

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import Draws
from broadbase.core.view import positions
from broadbase.data.batches import held_out
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PictureConfig
from broadbase.nn.spaces.regression import Regression
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run.run import Run

PICTURES = 300  # held-out ones that are looked at, the first


def patches(run: Run, base: Base) -> Iterator[Measured]:
    """Every source beside bilinear filling and the mean of the seen."""
    for source in run.config.data.sources:
        yield from _patches(run, base, source)


@torch.inference_mode()
def _patches(run: Run, base: Base, source: str) -> Iterator[Measured]:
    config, mixed = run.config.objective, run.config.data.sources[source]
    assert isinstance(config, MaskedAutoencoderConfig)
    target: Any = run.config.model.modalities[config.target]
    scaled = _scaled if target.normalise else np.asarray
    what = "squared error, patches normalised" if target.normalise else "squared error"
    image: Any = run.config.model.modalities[mixed.modality]
    found: dict[str, list[list[float]]] = {"base": [], "bilinear": [], "mean of the seen": []}
    for segment in held_out(run.rows("validation")[source], mixed.modality, 64):
        batch = Batch(0, {source: segment}, Draws(0, len(found["base"])))
        (view,) = config.build().views(batch, {})
        (read,) = view.reads
        assert read.values is not None
        encoder, decoder = view.streams
        told = base.model(asked(view)).predictions["p"]
        seen, hidden = encoder.segments[0], decoder.segments[1]
        assert seen.values is not None
        for b in range(len(told)):
            if len(found["base"]) == PICTURES:
                break
            inside = seen.position[b, :, 1] > 0  # not the start
            filled = bilinear(
                seen.values[b, inside].numpy(),
                seen.position[b, inside, 1:].numpy() - 1,
                hidden.position[b, :, 1:].numpy() - 1,
                image.patch,
                image.channels,
            )
            truth = scaled(read.values[b].numpy())
            found["base"].append(((told[b].numpy() - truth) ** 2).mean(axis=1).tolist())
            found["bilinear"].append(((scaled(filled) - truth) ** 2).mean(axis=1).tolist())
            mean = scaled(np.full_like(filled, float(seen.values[b, inside].mean())))
            found["mean of the seen"].append(((mean - truth) ** 2).mean(axis=1).tolist())
    yield from compared(source, what, found)


def _scaled(patches: NDArray[Any]) -> NDArray[Any]:
    """Each patch [S,K] at mean 0 and variance 1, as the base's targets: its shape."""
    mean = patches.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(patches.var(axis=-1, keepdims=True, ddof=1) + Regression.EPSILON)
    scaled: NDArray[Any] = (patches - mean) / deviation
    return scaled


def bilinear(
    values: NDArray[Any], places: NDArray[Any], wanted: NDArray[Any], patch: int, channels: int
) -> NDArray[Any]:
    """Hidden patches [S,K] from the pixels of the seen ones [V,K] around them.

    Linear between the nearest seen pixels (on their Delaunay triangles), the nearest one outside.
    """
    offsets = positions((patch, patch)).numpy()[:, 1:]
    points = (places[:, None] * patch + offsets).reshape(-1, 2)
    asked = (wanted[:, None] * patch + offsets).reshape(-1, 2)
    pixels = values.reshape(-1, channels)
    linear = griddata(points, pixels, asked, method="linear")
    nearest = griddata(points, pixels, asked, method="nearest")
    filled: NDArray[Any] = np.where(np.isnan(linear), nearest, linear)
    return filled.reshape(len(wanted), -1)


MEASURE = Measure((MaskedAutoencoderConfig,), patches, modalities=(ImageConfig, PictureConfig))
