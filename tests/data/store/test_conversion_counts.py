"""What is changed knowingly of a user's files is counted in the manifest and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.data.sources.files import ImageFilesConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.image import ImageConfig


def test_rates_and_channels_of_sounds(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        rate, channels = (8_000, 1) if i < 5 else (16_000, 2 if i < 8 else 1)
        data = 0.3 * rng.standard_normal((rate // 4, channels))
        soundfile.write(tmp_path / "in" / f"{i}.wav", data, rate)
    wanted = {
        "a": StoreRequest(AudioFilesConfig(path=str(tmp_path / "in")), AudioConfig(), "audio")
    }
    stores, _ = prepare(wanted, tmp_path / "store", PrepareConfig(holdout=0.3))
    converted = stores["a"].manifest["converted"]
    assert converted == {"2 channels to 1": 3, "8000 to 16000 Hz": 5}
    assert "5 converted from 8000 to 16000 Hz" in stores["a"].summary()
    output = CliRunner().invoke(app, ["inspect", str(tmp_path / "store")])
    assert "3 converted from 2 channels to 1" in output.stdout


def test_colours_and_sizes_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        size, mode = (16, 16) if i < 4 else (8, 8), "RGBA" if i < 2 else "RGB"
        pixels = rng.integers(0, 256, (*size, len(mode))).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
    source = ImageFilesConfig(path=str(tmp_path / "in"))
    wanted = {"p": StoreRequest(source, ImageConfig(height=8, width=8, patch=4), "image")}
    stores, _ = prepare(wanted, tmp_path / "store", PrepareConfig(holdout=0.3))
    result = stores["p"].manifest["converted"]
    assert result == {"RGBA to RGB": 2, "a size other than 8 x 8 pixels": 4}
