"""Images: any picture of the levels comes back exactly, any other one within half a level."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from broadbase.core.errors import DataError
from broadbase.core.sources import Record
from broadbase.data.sources.pictures import picture
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.modalities.resizing import Resizing

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
    raw = Image.new(mode, (31, 17), 1 if mode == "P" else 0)
    codec = ImageConfig(height=8, width=8, channels=channels, patch=4).fit([])
    assert codec.encode(raw).values.shape == (4, 16 * channels)


def half_clear(mode: str) -> Image.Image:
    """The left half is black; of the right half nobody sees what it holds."""
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 255, (8, 8), dtype=np.uint8)
    noise[:, :4] = 0
    if mode in ("RGBA", "LA"):
        alpha = np.zeros((8, 8), np.uint8)
        alpha[:, :4] = 255
        return Image.fromarray(np.stack([*[noise] * (len(mode) - 1), alpha], axis=-1))
    hidden = np.where(noise == 0, 0, 7).astype(np.uint8)
    if mode == "RGB":
        picture = Image.fromarray(np.stack([hidden] * 3, axis=-1))
        picture.info["transparency"] = (7, 7, 7)
        return picture
    picture = Image.fromarray(hidden)
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0] + [90, 30, 200] * 255)
    picture.info["transparency"] = 7
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_white(mode: str, channels: int) -> None:
    """In both codecs of pictures, and in one from a file."""
    file = io.BytesIO()
    half_clear(mode).save(file, "PNG")
    result = picture("a.png", file)
    assert isinstance(result, Record), result
    wanted = np.ones((8, 8, channels))
    wanted[:, :4] = 0
    image = ImageConfig(height=8, width=8, channels=channels, patch=4, levels=256)
    settings = {"mean": (0.5,), "deviation": (0.5,)} if channels == 1 else {}
    published = PublishedImageConfig(size=8, patch=4, channels=channels, **settings)
    for config in (image, published):
        for raw in (half_clear(mode), result.raw):
            codec = config.fit([])
            sample = codec.encode(raw)
            assert np.abs(codec.decode(sample.values, sample.grid) - wanted).max() < 0.01


def test_four_channels_keep_what_is_transparent_and_five_are_refused() -> None:
    codec = ImageConfig(height=8, width=8, channels=4, patch=4, levels=256).fit([])
    sample = codec.encode(half_clear("RGBA"))
    assert set(np.unique(codec.decode(sample.values, sample.grid)[..., 3])) == {0, 1}
    config = ImageConfig(height=8, width=8, channels=5, patch=4)
    assert config.conversions(half_clear("RGBA")) == ()
    with pytest.raises(ValueError, match="no 5 channels"):
        config.fit([]).encode(half_clear("RGBA"))
    codec = PublishedImageConfig(size=8, patch=4).fit([])
    with pytest.raises(ValueError, match="8 bits a channel"):
        codec.encode(Image.fromarray(np.zeros((8, 8), np.uint16)))


def cropped(size: int = 224) -> Resizing:
    settings = {"size": {"shortest_edge": size}, "do_center_crop": True, "crop_size": size}
    return Resizing.read(settings, size, 3, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("shape", [(4, 60_000), (60_000, 4), (3, 50_001), (1, 4000)])
def test_a_thin_picture_takes_little_memory(shape: tuple[int, int]) -> None:
    """Its middle is seen, in the size that the crop keeps."""
    line = np.linspace(0, 255, max(shape)).astype(np.uint8)
    pixels = np.broadcast_to(line if shape[1] > shape[0] else line[:, None], shape)
    raw = Image.fromarray(np.stack([pixels] * 3, axis=-1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = cropped()(raw)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert result.shape == (224, 224, 3)
    assert np.abs(result - 127).max() <= 2


def test_a_thin_picture_is_not_framed() -> None:
    settings = {"size": 8, "do_pad": True, "image_mean": [0.5] * 3}
    framed = Resizing.read(settings, 8, 3, Image.Resampling.BICUBIC)
    assert framed(Image.new("RGB", (40, 4))).shape == (8, 8, 3)
    with pytest.raises(ValueError, match="60000 x 4 pixels: too thin"):
        framed(Image.new("RGB", (60_000, 4)))


@pytest.mark.parametrize("edge", [-1, 0, 10**9])
def test_sizes_of_a_folder_that_fit_nothing_are_refused(edge: int) -> None:
    settings = {"size": {"shortest_edge": edge}, "do_center_crop": True, "crop_size": 224}
    with pytest.raises(DataError, match="do not fit together"):
        Resizing.read(settings, 224, 3, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("ending", ["png", "ppm"])
def test_sixteen_bits_are_said(ending: str, tmp_path: Path) -> None:
    pixels = np.full((4, 4, 3), 60_000, ">u2")
    path = tmp_path / f"a.{ending}"
    if ending == "ppm":
        path.write_bytes(b"P6 4 4 65535\n" + pixels.tobytes())
    else:
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))]
        chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(body))
                + name
                + body
                + struct.pack(">I", zlib.crc32(name + body))
                for name, body in chunks
            )
        )
    result = picture(str(path), path.open("rb"))
    assert isinstance(result, Record), result
    assert result.converted == ("16 bits to 8",)
    assert np.asarray(result.raw)[0, 0, 0] in (233, 234)
    (tmp_path / "8.ppm").write_bytes(b"P6 4 4 255\n" + bytes(48))
    result = picture("8.ppm", (tmp_path / "8.ppm").open("rb"))
    assert isinstance(result, Record), result
    assert result.converted == ()
