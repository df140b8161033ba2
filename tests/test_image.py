"""Images: any picture of the levels comes back exactly, any other one within half a level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from broadbase.modalities.image import ImageConfig

shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))


@given(shapes, st.integers(2, 256), st.integers(0, 999), st.booleans())
def test_any_picture_comes_back(
    shape: tuple[int, int, int, int], levels: int, seed: int, exact: bool
) -> None:
    rows, columns, patch, channels = shape
    config = ImageConfig(
        height=rows * patch, width=columns * patch, channels=channels, patch=patch, levels=levels
    )
    rng, size = np.random.default_rng(seed), (rows * patch, columns * patch, channels)
    raw = rng.integers(0, levels, size) / (levels - 1) if exact else rng.random(size)
    codec = config.fit([])
    sample = codec.encode(raw)
    assert sample.grid == (rows, columns)
    assert sample.units == raw.size
    assert sample.values.shape == (rows * columns, patch * patch * channels)
    again = codec.decode(sample.values, sample.grid)
    step = 1e-6 if exact else 0.5 / (levels - 1) + 1e-6
    assert np.abs(again - raw).max() <= step


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4), ("P", 3)])
def test_pictures_of_any_mode_and_size_are_read(mode: str, channels: int) -> None:
    picture = Image.new(mode, (31, 17), 1 if mode == "P" else 0)
    codec = ImageConfig(height=8, width=8, channels=channels, patch=4).fit([])
    assert codec.encode(picture).values.shape == (4, 16 * channels)
