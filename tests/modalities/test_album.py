"""Albums: any number of pictures, a place each, and back."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from broadbase.modalities.album import AlbumConfig


def test_pictures_go_in_and_come_back() -> None:
    codec, pictures = AlbumConfig().fit([]), load_digits().images / 16
    for count in (1, 5, 300):
        sample = codec.encode(pictures[:count])
        assert sample.values.shape == (count, 64)
        assert sample.grid == (count,)
        assert sample.units == 64 * count
        back = codec.decode(sample.values, sample.grid)
        assert np.allclose(back[..., 0], pictures[:count], atol=1e-6)
    assert not (codec.start == codec.encode(pictures).values).all(axis=1).any()


def test_what_is_no_album_is_refused() -> None:
    codec = AlbumConfig().fit([])
    with pytest.raises(ValueError, match="without a picture"):
        codec.encode([])
    with pytest.raises(ValueError, match="expected an array of"):
        codec.encode([np.zeros((8, 9))])
    with pytest.raises(ValueError, match="within"):
        codec.encode(np.full((2, 8, 8), 2.0))
