"""Needles: planted where they are said to be, those for testing never seen, told by length."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from broadbase.core.contracts import Record, SourceConfig
from broadbase.core.errors import DataError
from broadbase.data.samples.catalog import DigitsConfig
from broadbase.data.sources.files import TextFilesConfig
from broadbase.data.sources.needles import AlbumsConfig, NeedlesConfig, planted, reserved
from broadbase.evaluate.needle import DEPTHS, HAYSTACKS, Passages, Pictures, answers
from broadbase.evaluate.registry import measured
from broadbase.inference.base import Base
from broadbase.modalities.album import AlbumConfig
from broadbase.modalities.bytes import BytesConfig
from broadbase.model.model import ModelConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import base_at
from conftest import TOWER

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


def test_every_needle_of_a_passage_is_asked_for_once(texts: Path) -> None:
    found = records(source(texts))
    assert len(found) > 100
    for record in found:
        pairs = LINE.findall(record.raw)
        half = len(pairs) // 2
        assert sorted(pairs[:half]) == sorted(pairs[half:])
        assert len({key for key, _ in pairs}) == half <= 3
        assert len(record.raw) <= 180
    whole = (texts / "0.txt").read_text().split()
    mine = [r.raw.splitlines() for r in found if r.group == "0"]
    quoted = [[line for line in lines if not LINE.fullmatch(line)] for lines in mine]
    assert " ".join(line for lines in quoted for line in lines).split()[:20] == whole[:20]
    assert [r.raw for r in records(source(texts))] == [r.raw for r in found]
    assert [r.raw for r in records(source(texts, seed=1))] != [r.raw for r in found]


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
    lines = planted(WORDS[:40], [("key", "1"), ("other", "2")], [depth, 0.5])
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
        told = [pair in pairs for pair in pairwise(again)]
        assert sum(told) >= len(told) // 2  # stretches of at least two
    digits = [record.place for record in records(DigitsConfig())]
    assert len(shown) == sum(reserved(place) for place in digits)


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    for i in range(30):
        Image.new("L", (8 + i % 2, 8)).save(tmp_path / f"{i}.png")
    source = find_recipe("album").build(1, str(tmp_path)).data.sources["album"].source
    assert isinstance(source, AlbumsConfig)
    with pytest.raises(DataError, match="one size"):
        source.shown(False)


def haystacks(kind: str) -> Any:
    if kind == "text":
        words = [w for w in WORDS if reserved(w)]
        return Passages(WORDS * 20, words, BytesConfig().fit([]))
    return Pictures(AlbumsConfig(source=DigitsConfig()).shown(True), AlbumConfig().fit([]))


@pytest.mark.parametrize("kind", ["text", "pictures"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_haystack_is_as_long_as_said_and_holds_its_needle_once(kind: str, depth: float) -> None:
    plant, length = haystacks(kind), 300
    there, absent = plant(1, length, depth, True), plant(1, length, depth, False)
    size = len(there.values) + len(there.answer)
    assert length - (12 if kind == "text" else 0) <= size <= length
    assert (there.answer == absent.answer).all()
    if kind == "text":
        text, other = (bytes(h.values[1:].tolist()).decode() for h in (there, absent))
        key, value = text.rsplit("- ", 1)[1], bytes(there.answer.tolist()).decode().strip()
        assert text.count(f"- {key} {value}\n") == 1
        assert f"- {key} {value}\n" not in other
        assert other.endswith(f"- {key}")
        assert len(LINE.findall(text)) == len(LINE.findall(other)) == 2
        before, after = text.split(f"- {key} {value}\n")
        words = [len([w for w in part.split() if w in WORDS]) for part in (before, after)]
        at, of = words[0], sum(words)
        assert at == pytest.approx(
            depth * of, abs=12
        )  # keys and values of the others are words too
    else:
        key = there.values[-1]
        places = [i for i, v in enumerate(there.values[:-1]) if (v == key).all()]
        assert places == [1 + round(depth * (length - 5))]
        assert (there.values[places[0] + 1] == there.answer[0]).all()
        assert not any((v == key).all() for v in absent.values[:-1])
        assert not any((v == there.answer[0]).all() for v in absent.values)
        assert (there.choices[0] == there.answer[0]).all()


def test_answers_do_not_depend_on_padding_or_batch() -> None:
    tree = {"modalities": {"bytes": {"name": "bytes"}}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    base = Base(config, config.build().eval(), {"bytes": BytesConfig().fit([])})
    plant = haystacks("text")
    rows = [plant(n, length, 0.5, True) for n, length in ((0, 300), (1, 200), (2, 120))]
    right, nats = answers(base, "bytes", rows)
    for i, row in enumerate(rows):
        alone, mine = answers(base, "bytes", [row])
        assert mine[0] == pytest.approx(nats[i], rel=1e-5)
        assert alone[0] == right[i]
        logits = base.logits(bytes([*row.values[1:], *row.answer]).decode())
        scores = logits.log_softmax(dim=-1)[len(row.values) - 1 : -1]
        picked = scores.gather(1, torch.from_numpy(row.answer)[:, None])
        assert nats[i] == pytest.approx(float(-picked.sum()), rel=1e-5)


def test_a_run_is_measured_beside_the_base_it_started_from(tmp_path: Path) -> None:
    """The whole way of a small base of pictures, then on from there with a longer window."""
    tree: dict[str, Any] = find_recipe("album").build(1, "sample:digits").tree()
    album = tree["data"]["sources"]["album"]
    album |= {"rows": 8, "length": 17}
    album["source"] |= {"pictures": 16, "count": 200}
    tree["train"] |= {"steps": 4, "evaluate_every": 4, "save_every": 4}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "short")
    run.train()
    album["length"] = 65
    album["source"]["pictures"] = 64
    scaling = {"name": "yarn", "factor": 4, "original": 17}
    tree["model"]["towers"]["main"]["positions"]["scaling"] = scaling
    tree["start"] = str(run.folder)
    far = Run.create(RunConfig.from_tree(tree), tmp_path / "far")
    far.train()
    rows = measured(far, base_at(far.folder))
    told = [row for row in rows if row.measure.startswith("needles told")]
    assert {row.measure.split()[2] for row in told} == {"16", "32", "49", "65"}
    assert {row.baseline for row in told} == {
        "another needle in its place",
        "the base it started from",
        "that base, its positions changed",
    }
    assert all(row.items == HAYSTACKS * len(DEPTHS) for row in told)
    before = {(r.measure, r.baseline): r for r in rows}
    start = base_at(run.folder)
    alone = {r.measure: r for r in measured(far, start) if r.source == "album"}
    for row in told:
        if row.baseline == "the base it started from":
            assert row.other == alone[row.measure].base
    assert len(before) == len(rows)
