"""Pairs of images and texts, read from where users have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from broadbase.core.errors import ConfigError
from broadbase.core.sources import Record, Reject
from broadbase.data.detect import pairs
from broadbase.data.samples.emoji import EmojiConfig

RECTANGLE = '<rect width="4" height="8" fill="{}"/>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">{RECTANGLE}</svg>'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of OpenMoji's layout: two emoji, one also in a skin tone, one without file."""
    rows = [
        {"hexcode": "1F1", "annotation": "red half", "tags": "half, red", "openmoji_tags": ""},
        {"hexcode": "1F2", "annotation": "blue half", "tags": "", "openmoji_tags": ""},
        {"hexcode": "1F3", "annotation": "lost", "tags": "", "openmoji_tags": ""},
    ]
    rows = [{**row, "skintone": "", "group": "shapes"} for row in rows]
    rows.append({**rows[0], "hexcode": "1F1-T", "skintone": "5"})
    (tmp_path / "data").mkdir()
    (tmp_path / "color" / "svg").mkdir(parents=True)
    (tmp_path / "data" / "openmoji.json").write_text(json.dumps(rows))
    for code, colour in (("1F1", "red"), ("1F2", "blue"), ("1F1-T", "red")):
        (tmp_path / "color" / "svg" / f"{code}.svg").write_text(SVG.format(colour))
    return tmp_path


def test_emoji_are_drawn_on_white_and_described(package: Path) -> None:
    result = list(EmojiConfig(path=str(package), size=8).records())
    assert isinstance(result[2], Reject)
    assert "1F3" in result[2].origin
    pictures = {r.key: np.asarray(r.raw) for r in result if isinstance(r, Record)}
    assert set(pictures) == {"1F1", "1F2"}
    assert pictures["1F1"].shape == (8, 8, 3)
    assert pictures["1F1"][4, 1].tolist() == [255, 0, 0]
    assert pictures["1F2"][4, 1].tolist() == [0, 0, 255]
    assert pictures["1F2"][4, 6].tolist() == [255, 255, 255]
    output = EmojiConfig(path=str(package), part="description").records()
    texts = {r.key: r.raw for r in output if isinstance(r, Record)}
    assert texts == {"1F1": "red half: half, red", "1F2": "blue half", "1F3": "lost"}


def album(folder: Path, table: bool) -> None:
    """80 pictures of one of 8 greys in one half of 2, and a text that says which."""
    rows = []
    for i in range(160):
        grey, left = i % 8, i // 8 % 2
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[:, : 16 if left else 32] = 30 * grey
        text = f"grey {grey} {'left' if left else 'whole'} number {i}"
        picture = folder / f"{i}.png"
        Image.fromarray(pixels).save(picture)
        rows.append({"image": {"bytes": picture.read_bytes()}, "text": text})
        if table:
            picture.unlink()
        else:
            (folder / f"{i}.txt").write_text(text)
    if table:
        pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")


@pytest.mark.parametrize("table", [False, True])
def test_pairs_are_detected_in_folders_and_tables(tmp_path: Path, table: bool) -> None:
    album(tmp_path, table)
    sources = pairs(str(tmp_path))
    assert set(sources) == {"image", "text"}
    records = {n: [r for r in s.records() if isinstance(r, Record)] for n, s in sources.items()}
    by_key = {record.key: record.raw for record in records["text"]}
    assert len(by_key) == 160
    for record in records["image"]:
        said = int(by_key[record.key].split()[1])
        assert np.asarray(record.raw)[0, 0, 0] == 30 * said


def test_a_sample_set_without_pairs_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'moses' has no pairs of image and text; these have: .*openmoji"
    ):
        pairs("sample:moses")
