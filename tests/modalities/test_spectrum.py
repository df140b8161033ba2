"""Sound as Whisper reads it: a window of fixed length, and what a sound fills of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.modalities.spectrum import SpectrumCodec, SpectrumConfig
from broadbase.weights.folder import load
from support.references import saved, whisper

CODEC = SpectrumCodec(SpectrumConfig(mels=8, max_length=50))


@pytest.mark.parametrize(("samples", "tokens"), [(1, 1), (320, 1), (321, 2), (16_000, 50)])
def test_content_is_the_beginning_of_the_window(samples: int, tokens: int) -> None:
    sound = np.sin(np.arange(samples) / 7).astype(np.float32)
    full, content = CODEC.encode(sound), CODEC.encode_content(sound)
    assert full.grid == (50,)
    assert content.grid == (tokens,)
    assert np.array_equal(content.values, full.values[:tokens])


def test_a_sound_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.0 s of sound, and the window holds 1\.0 s"):
        CODEC.encode_content(np.ones(16_001, np.float32))


def test_methods_learn_from_the_sound_and_not_from_the_silence(tmp_path: Path) -> None:
    """Also next to a longer one in the same batch."""
    saved(lambda: whisper(max_source_positions=50), tmp_path)
    base, rng = load(tmp_path), np.random.default_rng(0)
    short, long = (rng.standard_normal(n).astype(np.float32) for n in (3200, 16_000))
    together = Encoder(base, "audio").vectors(Inputs([short, long]), LAST)
    alone = Encoder(base, "audio").vectors(Inputs([short]), LAST)
    assert np.allclose(together[:1], alone, atol=1e-5)
    padded = base.embed([short], modality="audio", layers=False)
    assert np.abs(padded - alone).max() > 0.1
