"""Masked tubelets: filling in time, then space, is exact on a ramp."""

from __future__ import annotations

import numpy as np

from broadbase.evaluate.masked_video import fill_clip
from broadbase.modalities.video import VideoConfig


def test_filling_is_exact_where_time_and_plane_are_linear() -> None:
    """A ramp over time, rows and columns comes back from its visible surroundings."""
    video = VideoConfig(frames=6, height=8, width=8, channels=1, tubelet=2, patch=2)
    T, R, C = video.grid
    t, y, x = np.meshgrid(np.arange(6), np.arange(8), np.arange(8), indexing="ij")
    raw = (t / 20 + y / 40 + x / 40)[..., None]
    clip = raw.reshape(T, 2, R, 2, C, 2, 1).transpose(0, 2, 4, 1, 3, 5, 6).reshape(T, R, C, -1)
    visible = np.ones((T, R, C), bool)
    visible[1, 0, 0] = visible[1, 2, 3] = False  # between two times that are visible
    visible[:, 1, 1] = visible[:, 2, 2] = False  # at no time, inside the plane
    filled = fill_clip(np.where(visible[..., None], clip, np.nan), visible, video)
    assert np.allclose(filled, clip)
    only = np.zeros((T, R, C), bool)
    only[0] = True
    filled = fill_clip(np.where(only[..., None], clip, np.nan), only, video)
    frame = clip[0].reshape(R, C, 2, 2, 2, 1)[:, :, 1]
    assert np.allclose(filled[2].reshape(R, C, 2, 2, 2, 1), frame[:, :, None])  # the nearest frame
