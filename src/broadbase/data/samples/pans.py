"""Videos under a camera that pans: the direction is the label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from broadbase.data.sources.video import ClipsConfig, Pixels

WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


class PannedVideosConfig(ClipsConfig):
    """Clips over which the camera pans; the label is the way it goes: up, down, left, right.

    The window moves over the frames of the video by `step` pixels a frame of the clip.
    """

    name: Literal["panned_videos"] = "panned_videos"
    step: Annotated[int, Field(ge=1)] = 3
    """The pixels by which the window moves from a frame of the clip to the next."""

    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        """Yield each window of a clip with its name and its label."""
        T, H, W = frames.shape[:3]
        middle = np.array([(H - self.size) // 2, (W - self.size) // 2])
        times = np.arange(T) - (T - 1) // 2
        for way, direction in WAYS.items():
            corners = middle + self.step * times[:, None] * np.array(direction)
            if corners.min() < 0 or (corners + self.size > [H, W]).any():
                raise ValueError(f"a pan of {self.step} pixels a frame leaves frames of {W} x {H}")
            located = zip(frames, corners, strict=True)
            clip = [f[y : y + self.size, x : x + self.size] for f, (y, x) in located]
            yield f"pan {way}", way, np.stack(clip)
