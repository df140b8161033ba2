"""Pairs of pictures and texts: read from where users have them, and found again by the measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from broadbase.core.contracts import Record, Reject
from broadbase.core.errors import ConfigError
from broadbase.data.detect import pairs
from broadbase.data.samples.emoji import EmojiConfig
from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import measured
from broadbase.evaluate.retrieval import ranks
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

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
    found = list(EmojiConfig(path=str(package), size=8).records())
    assert isinstance(found[2], Reject)
    assert "1F3" in found[2].place
    pictures = {r.key: np.asarray(r.raw) for r in found if isinstance(r, Record)}
    assert set(pictures) == {"1F1", "1F2"}
    assert pictures["1F1"].shape == (8, 8, 3)
    assert pictures["1F1"][4, 1].tolist() == [255, 0, 0]
    assert pictures["1F2"][4, 1].tolist() == [0, 0, 255]
    assert pictures["1F2"][4, 6].tolist() == [255, 255, 255]
    told = EmojiConfig(path=str(package), part="description").records()
    texts = {r.key: r.raw for r in told if isinstance(r, Record)}
    assert texts == {"1F1": "red half: half, red", "1F2": "blue half", "1F3": "lost"}


def test_ranks_count_the_wrong_ones_that_are_nearer() -> None:
    first = torch.eye(3)
    second = torch.tensor([[0.9, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    there, back = ranks(first, second)
    assert there == [1, 0, 0]  # the first is nearer to the second's partner (1.0) than to its own
    assert back == [0, 1, 0]


def album(folder: Path, table: bool, labelled: bool = False) -> None:
    """80 pictures of one of 8 greys in one half of 2, and a text that says which."""
    rows = []
    for i in range(160):
        grey, left = i % 8, i // 8 % 2
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[:, : 16 if left else 32] = 30 * grey
        text = f"grey {grey} {'left' if left else 'whole'} number {i}"
        home = folder / f"grey-{grey}" if labelled else folder
        home.mkdir(exist_ok=True)
        picture = home / f"{i}.png"
        Image.fromarray(pixels).save(picture)
        rows.append({"image": {"bytes": picture.read_bytes()}, "text": text})
        if table:
            picture.unlink()
        else:
            (home / f"{i}.txt").write_text(text)
    if table:
        pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")


@pytest.mark.parametrize("table", [False, True])
def test_pairs_are_found_in_folders_and_tables(tmp_path: Path, table: bool) -> None:
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


@pytest.mark.parametrize("recipe", ["clip", "siglip"])
def test_what_a_text_says_is_found(recipe: str, tmp_path: Path) -> None:
    """16 kinds of pictures: after training, recall is above chance and above random init; and
    wordings of a label that no text has name its pictures."""
    (tmp_path / "album").mkdir()
    album(tmp_path / "album", table=False, labelled=True)
    tree = find_recipe(recipe).build(1, str(tmp_path / "album")).tree()
    tree["train"] |= {"steps": 120, "evaluate_every": 120, "save_every": 120}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["model"]["modalities"]["image"] |= {"height": 8, "width": 8, "patch": 4}
    tree["model"]["modalities"]["text"]["vocabulary"] = 300
    tree["data"]["holdout"] = 0.4
    tree["data"]["sources"]["image"]["source"]["labels"] = "folder"
    for source in tree["data"]["sources"].values():
        source["rows"] = 16
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    found = measured(run, load(tmp_path / "run" / "model"))
    shown = {r.baseline: r for r in found if r.measure == "zero-shot accuracy"}
    assert shown.keys() == {"random init", "commonest class"}
    assert shown["commonest class"].low > 0
    classes = {record.label for record in paired_records(run, "image", "validation")}
    alike = {r.baseline: r for r in found if r.measure.endswith("mean per class")}
    assert alike["commonest class"].other == pytest.approx(1 / len(classes))
    assert alike["commonest class"].low > 0
    rows = [r for r in found if not r.measure.startswith("zero-shot")]
    assert {(r.source, r.measure) for r in rows} == {
        (source, f"recall@{k}") for source in ("image > text", "text > image") for k in (1, 10)
    }
    for row in rows:
        assert row.low <= row.difference <= row.high
        assert row.items == len(run.rows("validation")["text"])
        if row.measure == "recall@10":
            assert row.low > 0, row
            if row.baseline == "chance":
                assert row.other == pytest.approx(10 / row.items)
