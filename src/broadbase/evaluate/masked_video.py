"""Restoring hidden tubelets of held-out clips: squared error beside filling from the same seen.

A hidden tubelet is filled in time where its place is seen at another time, in the plane from what
is then known elsewhere. Clips of a stretch of time hang together, so stretches are the items of
the interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Segment
from broadbase.data.batches import held_out
from broadbase.evaluate.masked_image import bilinear
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.modalities.video import VideoConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run.run import Run

STRETCH = 16  # characters of an id that its stretch of time decides

Cubes = NDArray[np.float32]  # [T,R,C,K]: T times, R rows, C columns, K channels


def tubelets(run: Run, base: Base) -> Iterator[Measured]:
    """Every source beside filling in time, then in the plane, and the mean of the seen."""
    for source in run.config.data.sources:
        yield from _tubelets(run, base, source)


@torch.inference_mode()
def _tubelets(run: Run, base: Base, source: str) -> Iterator[Measured]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    told_in: Any = run.config.model.modalities[run.config.objective.target]  # type: ignore[attr-defined]
    if told_in.normalise:
        raise ConfigError("this base tells no pixels: train it with pixels.normalise=false")
    video: Any = run.config.model.modalities[mixed.modality]
    objective, ids = run.config.objective.build(), run.stores[source].ids("validation")
    stretches = [ids[d][:STRETCH] for d in validation.chunks[validation.packed, 0]]
    found: dict[str, dict[str, list[float]]] = {}
    at = 0
    for i, segment in enumerate(held_out(validation, mixed.modality, 64)):
        (view,) = objective.views(Batch(i, {source: segment}, Draws(0, i)), {})
        told = base.model(asked(view)).predictions["p"].numpy()
        hidden = view.streams[1].segments[1]
        for row in range(len(told)):
            clip, seen, places = _clip(segment, hidden, row, video.grid)
            truth = clip[tuple(places.T)]
            mean = np.full_like(clip, clip[seen].mean())
            for name, guess in (
                ("base", told[row]),
                ("time, then plane", filled(clip, seen, video)[tuple(places.T)]),
                ("mean of the seen", mean[tuple(places.T)]),
            ):
                errors = ((guess - truth) ** 2).mean(axis=1).tolist()
                found.setdefault(name, {}).setdefault(stretches[at], []).extend(errors)
            at += 1
    yield from compared(source, "squared error", {n: [*e.values()] for n, e in found.items()})


def _clip(
    segment: Segment, hidden: Segment, row: int, grid: tuple[int, int, int]
) -> tuple[Cubes, NDArray[np.bool_], NDArray[np.int64]]:
    """A row's clip, which of it is seen [T,R,C], and the places of the hidden ones [S,3]."""
    assert segment.values is not None
    clip = segment.values[row, 1:].numpy().reshape(*grid, -1)
    places = hidden.position[row].numpy() - 1
    seen = np.ones(grid, dtype=bool)
    seen[tuple(places.T)] = False
    return clip, seen, places


def filled(clip: Cubes, seen: NDArray[np.bool_], video: VideoConfig) -> Cubes:
    """The clip with all that is not `seen` [T,R,C] filled in from what is.

    In time linear between the nearest seen frames of a place, the nearest one outside; then, for
    places seen at no time, linear in the plane.
    """
    T, R, C = seen.shape
    t, p, c = video.tubelet, video.patch, video.channels
    frames = clip.reshape(T, R, C, t, p * p * c).transpose(1, 2, 0, 3, 4).reshape(R, C, T * t, -1)
    known = np.repeat(seen.transpose(1, 2, 0), t, axis=2)  # [R,C,T*t]
    out, times = frames.copy(), np.arange(T * t)
    for row, column in np.argwhere(seen.any(axis=0)):
        here = np.flatnonzero(known[row, column])
        weights = np.stack([np.interp(times, here, one) for one in np.eye(len(here))], axis=1)
        out[row, column] = weights @ frames[row, column, here]
    missing = np.argwhere(~seen.any(axis=0))
    if len(missing):
        plane = out.reshape(R, C, T * t, p * p, c).transpose(0, 1, 3, 2, 4).reshape(R, C, -1)
        given = np.argwhere(seen.any(axis=0))
        told = bilinear(plane[tuple(given.T)], given, missing, p, T * t * c)
        cubes = told.reshape(-1, p * p, T * t, c).transpose(0, 2, 1, 3)
        out[tuple(missing.T)] = cubes.reshape(len(missing), T * t, -1)
    return out.reshape(R, C, T, -1).transpose(2, 0, 1, 3)


MEASURE = Measure((MaskedAutoencoderConfig,), tubelets, modalities=(VideoConfig,))
