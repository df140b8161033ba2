"""Sound: Whisper's features; any rate, depth and channels; what is no sound is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.modalities.audio import LOUDEST, SILENCE, AudioConfig
from broadbase.modalities.mel import log_mel
from broadbase.nn.spaces.logistic import DiscretizedLogisticConfig
from support.programs import run

RATE = 16_000
CODEC = AudioConfig().fit([])


def sine(hertz: float, rate: int = RATE, seconds: float = 1.0, size: float = 0.5) -> NDArray[Any]:
    return (size * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def noise(samples: int, seed: int = 0) -> NDArray[Any]:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype("f4")


def written(samples: NDArray[Any], rate: int = RATE, **form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **form})
    return file.getvalue()


def read(folder: Path, data: bytes, name: str = "a.wav", **settings: Any) -> Record | Reject:
    (folder / name).write_bytes(data)
    (result,) = AudioFilesConfig(path=str(folder / name), **settings).records()
    return result


def heard(folder: Path, data: bytes, name: str = "a.wav") -> NDArray[Any]:
    """The log-mel frames [T,80] of a file's bytes."""
    result = read(folder, data, name)
    assert isinstance(result, Record), result
    return CODEC.encode(result.raw).values.reshape(-1, 80)


@pytest.mark.parametrize("samples", [3200, 16_000, 52_480])
def test_features_are_whispers(samples: int) -> None:
    """Within 1e-4 of transformers' extractor, which gives (log-mel + 4) / 4 of 30 s."""
    x = noise(samples) + np.pad(sine(700, seconds=0.1), (0, samples - 1600))
    reference = WhisperFeatureExtractor()(x, sampling_rate=RATE, return_tensors="np").input_features
    ours = log_mel(np.pad(x, (0, 480_000 - samples)), RATE, 400, 160, 80)
    assert np.abs((ours.T + 4) / 4 - reference[0]).max() < 1e-4
    values = CODEC.encode((x, RATE)).values.reshape(-1, 80)
    inside = samples // 160 - 2  # the end is mirrored here, and goes on there
    shares = (reference[0].T[:inside] * 4 - 4 - SILENCE) / (LOUDEST - SILENCE)
    assert np.abs(values[:inside] - shares.clip(0, 1)).max() <= 0.5 / 255 + 1e-4


def test_many_blocks_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the last bits: some processors sum products of few rows in another order."""
    x = noise(20_000)
    full = log_mel(x, RATE, 400, 160, 80)
    monkeypatch.setattr("broadbase.modalities.mel.BLOCK", 7)
    np.testing.assert_allclose(log_mel(x, RATE, 400, 160, 80), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_a_sine_keeps_its_frequency(rate: int, tmp_path: Path) -> None:
    raw = read(tmp_path, written(sine(1234, rate), rate)).raw  # type: ignore[union-attr]
    samples = AudioConfig().clean(raw)
    assert abs(len(samples) - RATE) <= 1
    peak = np.abs(np.fft.rfft(samples, RATE)).argmax()
    assert peak == 1234  # bins of 1 Hz
    inner = samples[1000:-1000]
    assert np.sqrt(2 * (inner**2).mean()) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("form", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_depth_and_stereo_give_equal_features(form: str, tmp_path: Path) -> None:
    x = np.round(noise(8000) * 100) / 128  # what 8 bits can hold
    wanted = heard(tmp_path, written(x, subtype="FLOAT"))
    assert np.array_equal(heard(tmp_path, written(x, subtype=form)), wanted)
    both = np.stack([x, x], axis=1)
    assert np.array_equal(heard(tmp_path, written(both, subtype=form)), wanted)
    left = np.stack([2 * x, 0 * x], axis=1)
    assert np.array_equal(heard(tmp_path, written(left, subtype="FLOAT")), wanted)


@pytest.mark.parametrize("depth", ["PCM_S8", "PCM_16", "PCM_24"])
def test_flac_is_lossless(depth: str, tmp_path: Path) -> None:
    x = np.stack([np.round(noise(9000, i) * 100) / 128 for i in range(2)], axis=1)
    flac = heard(tmp_path, written(x, format="FLAC", subtype=depth), "a.flac")
    assert np.array_equal(flac, heard(tmp_path, written(x, subtype="FLOAT")))


@pytest.mark.parametrize(("ending", "form"), [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")])
def test_lossy_files_are_near(ending: str, form: str, tmp_path: Path) -> None:
    x = sine(440, 44_100) + sine(1000, 44_100, size=0.2)
    lossy = written(x, 44_100, format=ending.upper(), subtype=form)
    ours, wanted = heard(tmp_path, lossy, f"a.{ending}"), heard(tmp_path, written(x, 44_100))
    loud = wanted > wanted.max() - 2 / (LOUDEST - SILENCE)  # within 20 dB
    assert np.abs(ours[5:90] - wanted[5:90])[loud[5:90]].max() < 0.3 / (LOUDEST - SILENCE)


def test_a_sound_comes_back() -> None:
    """Decoded frames sound alike: the same peak, and log-mel within 2 dB where it is loud."""
    x = sine(600) + sine(2400, size=0.1)
    sample = CODEC.encode((x, RATE))
    again = CODEC.decode(sample.values, sample.grid)
    assert len(again) == len(x)
    assert abs(int(np.abs(np.fft.rfft(again)).argmax()) - 600) <= 20
    loud = sample.values > 0.6
    error = np.abs(CODEC.encode((again, RATE)).values - sample.values)[loud].mean()
    assert error * (LOUDEST - SILENCE) < 0.2


def test_positions_and_units() -> None:
    sample = CODEC.encode((noise(RATE + 1), RATE))
    assert sample.values.shape == (26, 320)  # 100 frames and a sample, four a place
    assert (sample.grid, sample.units) == ((26,), 104)
    assert CODEC.encode((noise(3), RATE)).values.shape == (1, 320)
    silent = CODEC.encode((np.zeros(640, "f4"), RATE))
    assert not silent.values.any()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ((np.array([0.1, np.nan], "f4"), RATE), "finite"),
        ((np.zeros((2, 5), "f4"), RATE), r"of one channel, got float32 \(2, 5\)"),
        (np.zeros(5, np.int16), "int16"),
        (np.zeros(0, "f4"), "no samples"),
        ("hello", "float samples"),
    ],
)
def test_what_is_no_sound_is_refused(raw: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        CODEC.encode(raw)


def wav_header(data: bytes, at: int, number: int, size: int = 4) -> bytes:
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


def refused() -> dict[str, tuple[bytes, str]]:
    """Files that must not be read, and words of the reason."""
    wav, flac = written(noise(8000)), written(noise(8000), format="FLAC")
    ogg = written(noise(8000), format="OGG", subtype="VORBIS")
    mp3 = written(noise(20_000), format="MP3", subtype="MPEG_LAYER_III")
    opposed = np.stack([sine(300), -sine(300)], axis=1)
    bad = noise(100)
    bad[50] = np.nan
    return {
        "empty.wav": (b"", "an empty file"),
        "text.wav": (b"hello, world", "cannot decode"),
        "cut.wav": (wav[:9000], "cut short"),
        "cut.flac": (flac[: len(flac) // 2], "cannot decode|cut short"),
        "cut.ogg": (ogg[: len(ogg) // 2], "cut short"),
        "cut.mp3": (mp3[: len(mp3) // 2], "cut short"),
        "header.wav": (wav[:44], "cut short"),
        "no-frames.wav": (written(noise(0)), "no samples"),
        "huge.wav": (wav_header(wav, 40, 0xFFFFFFF0), "cut short"),
        "huge-riff.wav": (wav_header(wav, 4, 0xFFFFFFF0), "cut short"),
        "rate.wav": (wav_header(wav, 24, 44_100), "contradicts itself"),
        "channels.wav": (wav_header(wav, 22, 2, 2), "contradicts itself"),
        "flipped.flac": (flac[:5000] + bytes([flac[5000] ^ 4]) + flac[5001:], "MD5|decode|cut"),
        "flipped.ogg": (ogg[:4000] + bytes([ogg[4000] ^ 4]) + ogg[4001:], "another sum"),
        "nan.wav": (written(bad, subtype="FLOAT"), "not finite"),
        "integers.wav": (written(noise(99) * 32768, subtype="FLOAT"), "integers kept as floats"),
        "opposed.wav": (written(opposed), "cancel each other"),
        "slow.wav": (written(noise(99), 999), "999 Hz is not within"),
        "nine.wav": (written(np.zeros((50, 9))), "9 channels"),
    }


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),  # FFmpeg
        (0, 0),  # GStreamer
        (36, 0),  # recorders that were switched off
        (0x7FFFF024, 0x7FFFF000),  # SoX
        (0x80000024, 0x80000000),  # arecord
        (0xFFFFFFFF, None),
        (0, None),
    ],
)
@pytest.mark.parametrize("more", [b"", b"\1\2\3"])
def test_a_wav_file_from_a_pipe_is_as_long_as_it_is(
    riff: int, data: int | None, more: bytes, tmp_path: Path
) -> None:
    full = written(np.stack([noise(8000), noise(8000)], axis=1))
    wanted = read(tmp_path, full, "a.wav")
    piped = wav_header(full, 4, riff)
    if data is not None:
        piped = wav_header(piped, 40, data) + more  # a frame that was not finished
    result = read(tmp_path, piped, "a.wav")
    assert isinstance(result, Record), result
    assert isinstance(wanted, Record)
    assert np.array_equal(result.raw.samples, wanted.raw.samples)


@pytest.mark.parametrize("name", sorted(refused()))
def test_bad_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    data, why = refused()[name]
    result = read(tmp_path, data, name)
    assert isinstance(result, Reject)
    assert result.origin.endswith(name)
    assert re.search(why, result.reason), result.reason


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 16_000, 44_100, 47_250, 48_000, 96_000])
def test_the_rate_of_a_flac_file_is_that_of_its_frames(rate: int, tmp_path: Path) -> None:
    """Its digest is of samples alone, so that another rate would be another sound."""
    flac = written(noise(9000), rate, format="FLAC")
    good = read(tmp_path, flac, "a.flac")
    assert isinstance(good, Record)
    assert good.raw.rate == rate
    message = ((rate + 50) << 4) + (flac[20] & 15)
    result = read(tmp_path, flac[:18] + message.to_bytes(3, "big") + flac[21:], "a.flac")
    assert isinstance(result, Reject)
    assert f"{rate + 50} Hz, its first frame {rate} Hz" in result.reason


def test_decoders_write_nothing_on_the_terminal(tmp_path: Path) -> None:
    """What libmpg123 and libtiff remark about damaged files is a reject or nothing."""
    mp3 = bytearray(written(noise(20_000), format="MP3", subtype="MPEG_LAYER_III"))
    for i in range(900, len(mp3), 47):
        mp3[i] ^= 0xFF
    (tmp_path / "a.mp3").write_bytes(mp3)
    code = (
        "from broadbase.data.sources.sound import AudioFilesConfig\n"
        f"print([r.reason for r in AudioFilesConfig(path={str(tmp_path)!r}).records()])\n"
    )
    message = run(code, check=True)
    assert "cut short" in message.stdout
    assert message.stderr == ""


def test_caps(tmp_path: Path) -> None:
    result = read(tmp_path, written(noise(32_000)), seconds=1)
    assert isinstance(result, Reject)
    assert "2 s; cut it, or raise the source's `seconds`" in result.reason
    result = read(tmp_path, written(noise(600_000)), limit=1)
    assert isinstance(result, Reject)
    assert "more than 1 MiB" in result.reason


def test_labels_are_of_the_path(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "cat/2.flac"):
        (tmp_path / name).parent.mkdir()
        form = name.rpartition(".")[2].upper()
        (tmp_path / name).write_bytes(written(noise(500), format=form))
    records = list(AudioFilesConfig(path=str(tmp_path), labels="folder").records())
    assert [r.label for r in records if isinstance(r, Record)] == ["cat", "dog"]


def test_logistic_is_a_likelihood() -> None:
    """Over all levels the masses are one, and as the paper's difference of sigmoids, in float64."""
    space = DiscretizedLogisticConfig(channels=3, levels=16).build(8).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.nn.init.normal_(space.output.weight, std=0.05)
    every = torch.arange(16, dtype=torch.float64) / 15
    scores = torch.stack([space.score(x, each.expand(2, 5, 3)) for each in every])
    mean, scale = space.predict(x).unbind(-1)
    at = every.view(-1, 1, 1, 1)
    half = 0.5 / 15
    above = torch.where(at == 1, 1.0, torch.sigmoid((at + half - mean) / scale.exp()))
    below = torch.where(at == 0, 0.0, torch.sigmoid((at - half - mean) / scale.exp()))
    wanted = -(above - below).log().sum(dim=-1)
    assert torch.allclose(scores, wanted, atol=1e-4)
    assert torch.allclose((above - below).sum(dim=0), torch.ones(2, 5, 3, dtype=torch.float64))
    narrow = torch.stack([mean, torch.full_like(mean, -7)], dim=-1)
    drawn = space.sample(narrow, lambda logits: logits.argmax(dim=-1))
    assert torch.allclose(drawn * 15, (mean.clamp(0, 1) * 15).round())
