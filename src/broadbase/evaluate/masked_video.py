"""Masked tubelets of held-out clips: squared error against interpolation in time and space.

A masked tubelet is filled in time where its patch is visible at another time. Where it never is,
it is filled in the plane, from what is then filled elsewhere. Clips of one stretch of a film depend
on each other, so the stretches are the items of the interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broadbase.evaluate.masked_errors import Filler, MaskedErrors, MaskedRecord, Values
from broadbase.evaluate.masked_image import bilinear
from broadbase.evaluate.registry import Measure
from broadbase.modalities.video import VideoConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig

GROUP_ID = 16  # characters of a record's id that are the same within its group

Cubes = NDArray[np.float32]  # [T,R,C,K]: T times, R rows, C columns, K channels


@dataclass(frozen=True)
class VideoFiller(Filler):
    """Interpolation in time, then space, and the mean of the visible pixels."""

    video: VideoConfig

    def fill(self, record: MaskedRecord) -> Mapping[str, Values]:
        """Return the masked tubelets [S,K] by baseline."""
        grid = self.video.grid
        clip = np.zeros((*grid, record.visible.shape[1]), record.visible.dtype)
        visible = np.zeros(grid, dtype=bool)
        clip[tuple(record.visible_at.T)] = record.visible
        visible[tuple(record.visible_at.T)] = True
        filled = fill_clip(clip, visible, self.video)[tuple(record.masked_at.T)]
        mean = np.full_like(filled, clip[visible].mean())
        return {"interpolation in time, then space": filled, "mean of visible pixels": mean}

    def item(self, record_id: str) -> str:
        """Return the stretch of a film that a clip is cut from."""
        return record_id[:GROUP_ID]


def fill_clip(clip: Cubes, visible: NDArray[np.bool_], video: VideoConfig) -> Cubes:
    """Fill all cubes of a clip that are not `visible` [T,R,C] from those that are.

    In time, linear between the nearest visible frames of a patch, the nearest frame outside; then,
    for patches that are visible at no time, linear in the plane.
    """
    T, R, C = visible.shape
    t, p, c = video.tubelet, video.patch, video.channels
    frames = clip.reshape(T, R, C, t, p * p * c).transpose(1, 2, 0, 3, 4).reshape(R, C, T * t, -1)
    seen = np.repeat(visible.transpose(1, 2, 0), t, axis=2)  # [R,C,T*t]
    out, times = frames.copy(), np.arange(T * t)
    for row, column in np.argwhere(visible.any(axis=0)):
        shown = np.flatnonzero(seen[row, column])
        weights = np.stack([np.interp(times, shown, one) for one in np.eye(len(shown))], axis=1)
        out[row, column] = weights @ frames[row, column, shown]
    missing = np.argwhere(~visible.any(axis=0))
    if len(missing):
        plane = out.reshape(R, C, T * t, p * p, c).transpose(0, 1, 3, 2, 4).reshape(R, C, -1)
        given = np.argwhere(visible.any(axis=0))
        filled = bilinear(plane[tuple(given.T)], given, missing, p, T * t * c)
        cubes = filled.reshape(-1, p * p, T * t, c).transpose(0, 2, 1, 3)
        out[tuple(missing.T)] = cubes.reshape(len(missing), T * t, -1)
    return out.reshape(R, C, T, -1).transpose(2, 0, 1, 3)


MEASURE = Measure((MaskedAutoencoderConfig,), MaskedErrors(VideoFiller), modalities=(VideoConfig,))
