"""Video: tubelets and back, clips in order and apart in time, damaged files, filling in."""

from __future__ import annotations

import re
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from broadbase.adapt.task_data import read_task
from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.sources import Record, Reject
from broadbase.core.view import Segment
from broadbase.data.detect import labelled
from broadbase.data.samples.pans import PannedVideosConfig
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.evaluate.registry import evaluate
from broadbase.modalities.video import VideoConfig
from broadbase.objectives.masks import TubeMaskConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.videos import film, moving

sizes = st.tuples(*[st.integers(1, 3)] * 5, st.sampled_from([1, 3]))


@given(sizes, st.integers(2, 256), st.integers(0, 999))
def test_any_clip_comes_back(sizes: tuple[int, ...], levels: int, seed: int) -> None:
    times, rows, columns, tubelet, patch, channels = sizes
    config = VideoConfig(
        frames=times * tubelet, height=rows * patch, width=columns * patch, tubelet=tubelet,
        patch=patch, channels=channels, levels=levels,
    )  # fmt: skip
    shape = (times * tubelet, rows * patch, columns * patch, channels)
    raw = np.random.default_rng(seed).integers(0, levels, shape) / (levels - 1)
    codec = config.fit([])
    sample = codec.encode(raw)
    assert sample.grid == (times, rows, columns)
    assert sample.units == raw.size
    assert np.abs(codec.decode(sample.values, sample.grid) - raw).max() < 1e-6
    # place (t, r, c) holds the cube of those frames, rows and columns
    t, r, c = times - 1, 0, columns - 1
    cube = raw[t * tubelet :, :patch, c * patch :]
    place = (t * rows + r) * columns + c
    assert np.allclose(sample.values[place], cube.ravel())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("clip", "expected a clip as an array, got str"),
        (np.zeros((7, 64, 64, 3)), r"expected an array of \(8, 64, 64, 3\)"),
        (np.full((8, 64, 64, 3), 255.0), r"within \[0, 1\]"),
        (np.full((8, 64, 64, 3), np.nan), "finite"),
    ],
)
def test_what_is_no_clip_is_refused(raw: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VideoConfig().fit([]).encode(raw)
    with pytest.raises(ValueError, match="tubelets of 2 x 8 x 8 do not divide 7 x 64 x 64"):
        VideoConfig(frames=7)


def numbered(count: int, height: int = 16, width: int = 24) -> np.ndarray:
    """Frame n is n everywhere."""
    return np.tile(np.arange(count, dtype=np.uint8)[:, None, None, None], (1, height, width, 3))


SMALL = {"frames": 4, "stride": 2, "hop": 3, "stretch": 12, "gap": 5, "side": 16, "size": 8}


def read(path: Path, **settings: Any) -> list[Record | Reject]:
    return list(VideoFilesConfig(path=str(path), **{**SMALL, **settings}).records())


def test_clips_are_in_order_and_stretches_apart(tmp_path: Path) -> None:
    film(tmp_path / "count.mkv", numbered(40))
    clips = [r for r in read(tmp_path, labels="file") if isinstance(r, Record)]
    assert {clip.label for clip in clips} == {"count"}
    assert len({clip.origin for clip in clips}) == len(clips)
    firsts = sorted({int(clip.raw[0, 0, 0, 0]) for clip in clips})
    assert firsts == [0, 3, 17, 20]  # stretches 0-11, 17-28; the last, 34-39, is too short
    used: dict[str, set[int]] = {}
    for clip in clips:
        assert clip.raw.shape == (4, 8, 8, 3)
        times = clip.raw[:, 0, 0, 0].astype(int)
        assert (np.diff(times) == 2).all()
        assert (clip.raw == clip.raw[:, :1, :1, :1]).all()
        used.setdefault(clip.group, set()).update(times.tolist())
    a, b = used.values()
    assert min(b) - max(a) > 5


def test_windows_cut_the_frame_as_it_lies(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 16, 26, 3), dtype=np.uint8)
    film(tmp_path / "noise.mkv", frames)
    clips = read(tmp_path, hop=12)
    assert [r.origin.split(", ")[1] for r in clips] == [
        f"window {row},{column}" for row in (0, 1) for column in (0, 1, 2)
    ]
    last = clips[-1]
    assert isinstance(last, Record)
    assert (last.raw == frames[0:7:2, 8:16, 17:25]).all()  # 24 of 26 columns, about the middle
    film(tmp_path / "noise.mkv", np.tile(frames[:, :, :16], (1, 2, 2, 1)))
    assert isinstance(read(tmp_path, size=16)[0], Record)


def test_pans_go_where_they_say(tmp_path: Path) -> None:
    line = np.arange(24, dtype=np.uint8)
    frames = np.zeros((24, 24, 24, 3), np.uint8)
    frames[..., 0], frames[..., 1] = line[:, None], line
    film(tmp_path / "grid.mkv", frames)
    source = PannedVideosConfig(path=str(tmp_path), **{**SMALL, "side": 24, "hop": 12}, step=2)
    moves = {r.label: np.diff(r.raw[:, 0, 0, :2].astype(int), axis=0)
             for r in source.records() if isinstance(r, Record)}  # fmt: skip
    assert set(moves) == {"up", "down", "left", "right"}
    for way, step in {"up": (-2, 0), "down": (2, 0), "left": (0, -2), "right": (0, 2)}.items():
        assert (moves[way] == step).all()
    task = read_task("pans", "video", source)
    assert task.groups is not None
    assert np.bincount(task.groups).tolist() == [4, 4]  # the four ways from one start


def test_upright_grey_and_too_much(tmp_path: Path) -> None:
    film(tmp_path / "grey.mkv", numbered(12), pixels="gray")
    (clip, *_) = read(tmp_path)
    assert isinstance(clip, Record)
    assert clip.raw[:, 0, 0].tolist() == [[n] * 3 for n in (0, 2, 4, 6)]
    for settings, reason in (
        ({"limit": 0.0001}, "24 x 16 pixels, more than 0.0001 megapixels"),
        ({"most": 10}, "more than 10 frames"),
    ):
        (bad,) = read(tmp_path, **settings)
        assert isinstance(bad, Reject)
        assert reason in bad.reason
    film(tmp_path / "grey.mkv", numbered(12), pixels="bgra")
    (bad,) = read(tmp_path)
    assert isinstance(bad, Reject)
    assert "transparent" in bad.reason
    film(tmp_path / "grey.mkv", numbered(12, 4, 100))
    (bad,) = read(tmp_path)
    assert isinstance(bad, Reject)
    assert "too thin" in bad.reason
    with pytest.raises(ValueError, match="longer than a stretch"):
        VideoFilesConfig(path="x", frames=16, stride=4)


def timed(path: Path, times: list[int], sound: int = 0, **options: str) -> None:
    """A film whose frames are shown from these milliseconds, with seconds of silence."""
    container = {".ts": "mpegts", ".mpg": "mpeg"}.get(path.suffix)
    codec = {".webm": "libvpx", ".mpg": "mpeg2video"}.get(path.suffix, "mpeg4")
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        audio = out.add_stream("mp2" if container else "libopus", rate=48000) if sound else None
        for frame, time in zip(numbered(len(times)), times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
        for i in range(48000 * sound // 960 if audio else 0):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), "s16", "stereo")
            block.sample_rate, block.pts = 48000, 960 * i
            out.mux(audio.encode(block))


STEADY = [40 * i for i in range(60)]


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4", "mpg", "ts", "avi"])
@pytest.mark.parametrize("kind", ["sound", "late", "slower"])
def test_a_complete_film_is_not_called_cut_short(kind: str, ending: str, tmp_path: Path) -> None:
    """Sound longer than the pictures, pictures that begin late, a rate that changes."""
    path = tmp_path / f"a.{ending}"
    if kind == "sound" and ending == "avi":
        pytest.skip("FFmpeg writes no sound of ours into AVI")
    times = {
        "sound": STEADY,
        "late": [3000 + time for time in STEADY],
        "slower": [40 * i if i < 30 else 1200 + 400 * (i - 30) for i in range(60)],
    }[kind]
    timed(path, times, sound=10 if kind == "sound" else 0)
    result = read(path)
    assert [r.reason for r in result if isinstance(r, Reject)] == []
    shown = list(VideoFilesConfig(path=str(path))._frames(UPath(path)))
    assert len(shown) >= 60  # AVI repeats frames to keep one rate


def test_a_live_film_says_no_length(tmp_path: Path) -> None:
    timed(tmp_path / "a.mkv", STEADY, sound=10, live="1")
    assert all(isinstance(r, Record) for r in read(tmp_path))


def test_a_trimmed_film_is_complete(tmp_path: Path) -> None:
    """A telephone trims by a list of what is shown; the rest stays in the file."""
    timed(tmp_path / "a.mp4", STEADY)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"elst") + 12
    data[at : at + 8] = struct.pack(">Ii", 800, 12_800)  # 0.8 s, from 1 s on
    (tmp_path / "a.mp4").write_bytes(data)
    result = read(tmp_path)
    assert result
    assert all(isinstance(r, Record) for r in result)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "avi"])
def test_a_film_cut_short_is_refused_and_counts_what_is_lost(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    timed(path, STEADY, **({"movflags": "faststart"} if ending == "mp4" else {}))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    *_, last = read(path)
    assert isinstance(last, Reject)
    assert 0 < last.lost <= len(data)


TURNS = {  # a, b, c, d of the display matrix, and what becomes of the pixels
    (1, 0, 0, 1): lambda x: x,
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda x: x.swapaxes(0, 1),
    (0, -1, -1, 0): lambda x: np.rot90(x, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_turned_and_mirrored_films_are_seen_as_they_are_shown(
    turn: tuple[int, int, int, int], tmp_path: Path
) -> None:
    frame = np.zeros((16, 24, 3), np.uint8)
    frame[:8, :12], frame[:8, 12:], frame[8:, :12] = 250, 160, 80
    film(tmp_path / "a.mp4", np.stack([frame] * 12), "mpeg4", "yuv420p")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    a, b, c, d = (65_536 * part for part in turn)
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    source = VideoFilesConfig(path=str(tmp_path), side=16, size=16)
    result = next(iter(source._frames(UPath(tmp_path / "a.mp4"))))
    wanted = TURNS[turn](frame)
    assert result.shape == wanted.shape
    assert np.abs(result.astype(int) - wanted).mean() < 12


@pytest.mark.parametrize(("ratio", "shape"), [((2, 1), (16, 48)), ((1, 2), (21, 16))])
def test_pixels_that_are_not_square_are_stretched(
    ratio: tuple[int, int], shape: tuple[int, int], tmp_path: Path
) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)
        for frame in numbered(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())
    source = VideoFilesConfig(path=str(tmp_path), side=16, size=8)
    assert next(iter(source._frames(UPath(tmp_path / "a.mp4")))).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut short.mp4", "no pictures in it"),
        ("cut short.mkv", "cut short: "),
        ("text.mp4", "Invalid data"),
        ("empty.mp4", "Invalid argument"),
        ("list.m3u8.mp4", "Invalid data"),
    ],
)
def test_a_damaged_file_is_rejected_by_name(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if "short" in name:
        film(path, moving(), *(("ffv1", "bgr0") if "mkv" in name else ("mpeg4", "yuv420p")))
        complete = path.read_bytes()
        path.write_bytes(complete[: int(len(complete) * 0.6)])
    elif name == "list.m3u8.mp4":  # a playlist that would have the file opened that it names
        (tmp_path / "secret.ts").write_text("secret")
        path.write_text("#EXTM3U\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    else:
        path.write_text("no film" if "text" in name else "")
    *_, bad = read(path)
    assert isinstance(bad, Reject)
    assert bad.origin == str(path)
    assert re.search(reason, bad.reason), bad.reason


def test_tubes_hide_a_place_at_all_times() -> None:
    grid = np.stack(np.meshgrid(*map(np.arange, (4, 3, 5)), indexing="ij"), -1).reshape(-1, 3)
    row = Segment("video", torch.zeros(1, 60, 1), torch.from_numpy(1 + grid)[None])
    index, weight = TubeMaskConfig().choose(row, 40 / 60, KeyedRandom(0, 0), "video")
    assert weight.sum() == len(set(index[0].tolist())) == 40
    assert len({tuple(grid[place, 1:]) for place in index[0]}) == 10


def tiny(data: Path, out: Path, steps: int) -> Run:
    tree: dict[str, Any] = find_recipe("video").build(1, str(data)).tree()
    tree["train"] |= {"steps": steps, "evaluate_every": steps, "save_every": steps}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["data"] |= {"holdout": 0.3}
    video = {"frames": 4, "height": 16, "width": 16, "patch": 4, "tubelet": 2}
    tree["model"]["modalities"]["video"] |= video
    tree["model"]["heads"]["pixels"]["channels"] = 2 * 4 * 4 * 3
    tree["data"]["sources"]["video"] |= {"batch_size": 16, "sequence_length": 33}
    tree["data"]["sources"]["video"]["source"] |= {**SMALL, "stride": 1, "side": 16, "size": 16}
    return Run.create(RunConfig.from_tree(tree), out)


@pytest.mark.slow
def test_a_pattern_that_is_always_there_is_reported_and_filling_does_not(tmp_path: Path) -> None:
    """A fixed picture that flickers: from six seen patches filling cannot know it, a base can."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 2, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
    light = rng.uniform(0.3, 1, 400)[:, None, None, None]
    film(tmp_path / "flicker.mkv", (255 * picture * light).astype(np.uint8))
    run = tiny(tmp_path, tmp_path / "run", 150)
    ids = {side: run.stores["video"].ids(side) for side in ("train", "validation")}
    assert not {i[:16] for i in ids["train"]} & {i[:16] for i in ids["validation"]}
    run.train()
    rows = {row.baseline: row for row in evaluate(run, load(tmp_path / "run" / "model"))}
    assert set(rows) == {"interpolation in time, then space", "mean of visible pixels"}
    assert all(row.verdict == "better" for row in rows.values())
    assert (
        rows["interpolation in time, then space"].model
        < 0.5 * rows["interpolation in time, then space"].other
    )


def test_labels_and_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    film(tmp_path / "cat" / "a.mkv", numbered(12))
    source = labelled(str(tmp_path), "text", "label")
    assert isinstance(source, VideoFilesConfig)
    assert source.labels == "folder"
    require_extra.cache_clear()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs: pip install 'broadbase\[video\]'"):
        read(tmp_path)
    require_extra.cache_clear()
