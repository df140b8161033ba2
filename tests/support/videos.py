"""Small video files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def film(path: Path, frames: np.ndarray, codec: str = "ffv1", pixels: str = "bgr0") -> None:
    """Write uint8 [T,H,W,3]; FFV1 keeps every bit."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=pixels)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def moving(count: int = 50) -> np.ndarray:
    """A bright square that crosses a dark, noisy frame."""
    frames = np.random.default_rng(0).integers(0, 40, (count, 32, 32, 3), dtype=np.uint8)
    for i in range(count):
        frames[i, 8:20, i % 24 : i % 24 + 8] = 200
    return frames
