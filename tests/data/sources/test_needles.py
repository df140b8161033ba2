"""Needles: made of words that no test has, at a depth, and asked for once."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broadbase.core.errors import DataError
from broadbase.core.sources import Record, SourceConfig
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.data.sources.needles import AlbumsConfig, NeedlesConfig, insert_needle, reserved
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.evaluate.needle import DEPTHS
from broadbase.recipes.recipe import find_recipe

WORDS = [a + b + c for a in ("lo", "mi", "ra") for b in "nrsvk" for c in ("ak", "el", "in", "ot")]
LINE = re.compile("- ([a-z]+) ([0-9])")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty texts of made-up words, in random order."""
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for i in range(40):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(WORDS, 300)))
    return folder


def source(texts: Path, **settings: Any) -> NeedlesConfig:
    return NeedlesConfig(source=TextFilesConfig(path=str(texts)), **settings)


def records(some: SourceConfig) -> list[Record]:
    return [record for record in some.records() if isinstance(record, Record)]


def test_every_needle_of_a_passage_is_requested_for_once(texts: Path) -> None:
    result = records(source(texts))
    assert len(result) > 100
    for record in result:
        pairs = LINE.findall(record.raw)
        half = len(pairs) // 2
        assert sorted(pairs[:half]) == sorted(pairs[half:])
        assert len({key for key, _ in pairs}) == half <= 3
        assert len(record.raw) <= 180
    full = (texts / "0.txt").read_text().split()
    ours = [r.raw.splitlines() for r in result if r.group == "0"]
    quoted = [[line for line in lines if not LINE.fullmatch(line)] for lines in ours]
    assert " ".join(line for lines in quoted for line in lines).split()[:20] == full[:20]
    assert [r.raw for r in records(source(texts))] == [r.raw for r in result]
    assert [r.raw for r in records(source(texts, seed=1))] != [r.raw for r in result]


def test_data_that_no_needle_can_be_made_of_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text of few words, \u5317\u4eac " * 30)
    with pytest.raises(DataError, match=r"needles need as many .* have \d of 4 to 9"):
        records(source(tmp_path, most=3))
    (tmp_path / "a.txt").unlink()
    name = next(name for name in WORDS if reserved(name))
    (tmp_path / f"{name}.txt").write_text("the only one, and it is for testing")
    with pytest.raises(DataError, match="too few pictures for albums"):
        records(AlbumsConfig(source=TextFilesConfig(path=str(tmp_path))))


def test_no_tested_word_is_a_needle(texts: Path) -> None:
    config = source(texts)
    used = {key for record in records(config) for key, _ in LINE.findall(record.raw)}
    assert used <= set(config.words(False))
    assert not used & set(config.words(True))
    assert {*config.words(True), *config.words(False)} == set(WORDS)
    assert 0.1 < len(config.words(True)) / len(WORDS) < 0.4


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_needle_lies_at_its_depth(depth: float) -> None:
    lines = insert_needle(WORDS[:40], [("key", "1"), ("other", "2")], [depth, 0.5])
    before = "\n".join(lines).split("- key 1")[0]
    assert len([w for w in before.split() if w in WORDS]) == round(40 * depth)
    text = " ".join(line for line in lines if not LINE.fullmatch(line))
    assert text.split() == WORDS[:40]


def test_albums_ask_for_what_came_after() -> None:
    config = AlbumsConfig(source=DigitsConfig(), pictures=20, count=50)
    shown = {picture.tobytes() for picture in config.shown(True)}
    for record in records(config):
        size = len(record.raw)
        assert 5 <= size <= 20
        keys = [picture.tobytes() for picture in record.raw]
        row, again = keys[: size - size // 2], keys[size - size // 2 :]
        assert not shown & set(keys)
        pairs = {*pairwise(row)}
        output = [pair in pairs for pair in pairwise(again)]
        assert sum(output) >= len(output) // 2  # stretches of at least two
    digits = [record.origin for record in records(DigitsConfig())]
    assert len(shown) == sum(reserved(origin) for origin in digits)


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    for i in range(30):
        Image.new("L", (8 + i % 2, 8)).save(tmp_path / f"{i}.png")
    source = find_recipe("album").build(1, str(tmp_path)).data.sources["album"].source
    assert isinstance(source, AlbumsConfig)
    with pytest.raises(DataError, match="one size"):
        source.shown(False)
