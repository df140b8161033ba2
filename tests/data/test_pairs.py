"""Pairs: row i of paired sources is one record, on one side, whatever each source lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broadbase.core.errors import ConfigError, DataError
from broadbase.data.store.prepare import remove
from broadbase.run.config import RunConfig
from broadbase.run.prepare import data_folder
from broadbase.run.run import Run
from support.models import TOWER

TINY = {"height": 4, "width": 4, "channels": 1, "patch": 2, "levels": 256}


def tree(folder: Path, **objective: Any) -> dict[str, Any]:
    """Pictures and captions of one folder, paired; two towers that meet in a joint Space."""
    joint = {"name": "joint", "embedding_dim": 8}
    source = {"path": str(folder)}
    return {
        "recipe": "pairs",
        "depth": 1,
        "model": {
            "modalities": {
                "image": {"name": "image", **TINY},
                "text": {"name": "bytes"},
            },
            "heads": {
                "image_joint": joint,
                "text_joint": {**joint, "scale": 10.0},
            },
            "towers": {"image": TOWER, "text": TOWER},
            "tower_of": {"text": "text", "text_joint": "text"},
        },
        "objective": {"name": "infonce", **objective},
        "data": {
            "holdout": 0.3,
            "rejects": 0.2,
            "sources": {
                "image": {
                    "source": {"name": "image_files", "pattern": "**/*.png", **source},
                    "modality": "image",
                    "batch_size": 8,
                    "sequence_length": 5,
                    "pair_group": "captions",
                },
                "text": {
                    "source": {"name": "text_files", "pattern": "**/*.txt", **source},
                    "modality": "text",
                    "batch_size": 8,
                    "sequence_length": 12,
                    "pair_group": "captions",
                },
            },
        },
        "train": {"steps": 60, "evaluate_every": 60, "save_every": 60},
        "machine": {"device": "cpu", "precision": "fp32", "compile": "off"},
    }


def write(folder: Path, name: str, grey: int | None, caption: str | None) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if grey is not None:
        Image.fromarray(np.full((4, 4), grey, np.uint8)).save(folder / f"{name}.png")
    if caption is not None:
        (folder / f"{name}.txt").write_text(caption)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Pictures of one grey each, whose caption says which; some lack a half, one is broken."""
    folder = tmp_path / "album"
    for i in range(60):
        write(folder, f"{i % 3}/{i:02d}", 4 * i, f"grey {4 * i}")
    write(folder, "alone", 7, None)
    write(folder, "words", None, "grey 999")
    write(folder, "broken", 9, "grey 998")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def greys(run: Run, side: str) -> list[tuple[int, str]]:
    """What each row of a side shows, and what its caption says."""
    rows = run.rows(side)
    assert len(rows["image"]) == len(rows["text"])
    result = []
    for i in range(len(rows["image"])):
        picture, words = rows["image"][i], rows["text"][i]
        text = bytes(int(v) for v in words.values[words.document == 0] if v < 256).decode()
        result.append((round(float(picture.values[1:].mean()) * 255), text))
    return result


def test_a_picture_stays_with_its_caption(album: Path, tmp_path: Path) -> None:
    run = Run.create(RunConfig.from_tree(tree(album)), tmp_path / "run")
    both = [greys(run, side) for side in ("train", "validation")]
    for grey, text in both[0] + both[1]:
        assert abs(grey - int(text.removeprefix("grey "))) < 0.5
    assert len(both[0]) + len(both[1]) == 60
    assert not {t for _, t in both[0]} & {t for _, t in both[1]}
    said = (run.folder / "data" / "image" / "rejected.jsonl").read_text()
    assert "broken.png" in said
    for batch in run.mixture().batches(0, 20):  # over several epochs
        picture, words = batch.segments["image"].values, batch.segments["text"].values
        assert picture is not None
        assert words is not None
        for p, w in zip(picture, words, strict=True):
            text = bytes(int(v) for v in w[1:] if 0 < v < 256).decode()
            assert abs(float(p[1:].mean()) * 255 - int(text.removeprefix("grey "))) < 0.5


def test_pairs_learn_to_find_each_other(album: Path, tmp_path: Path) -> None:
    """Through the ordinary loop; held-out pairs of a batch are told together."""
    run = Run.create(RunConfig.from_tree(tree(album)), tmp_path / "run")
    output = run.train()["pairs"]["nats_per_token"]
    curve = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"]["pairs"] for row in curve if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    assert output < np.log(8)


def test_a_removed_pair_is_gone_from_both(album: Path, tmp_path: Path) -> None:
    config = RunConfig.from_tree(tree(album))
    run = Run.create(config, tmp_path / "run")
    before = [len(rows) for rows in run.rows("train").values()]
    gone = run.stores["text"].ids("train")[0]
    remove(data_folder(config, run.folder), [gone])
    after = Run.open(run.folder)
    assert [len(rows) + 1 for rows in after.rows("train").values()] == before
    assert gone not in after.stores["image"].ids("train")


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    """A table whose rows name their group: no group is on both sides."""
    path = tmp_path / "table.jsonl"
    lines = [{"text": f"line {i} of {i // 5}", "family": f"f{i // 5}"} for i in range(200)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = tree(tmp_path)
    config["data"]["sources"] = {
        "text": {
            "source": {"name": "jsonl", "path": str(path), "group": "family"},
            "modality": "text",
            "batch_size": 8,
            "sequence_length": 24,
        }
    }
    config["model"]["modalities"] = {"text": {"name": "bytes"}}
    config["model"]["tower_of"] = {}
    config["objective"] = {"name": "causal", "tower": "text"}
    run = Run.create(RunConfig.from_tree(config), tmp_path / "run")
    families = []
    for side in ("train", "validation"):
        split = run.stores["text"].split(side)
        texts = [
            bytes(split.piece(i, 1, int(split.lengths[i]))).decode() for i in range(len(split))
        ]
        families.append({text.rsplit(" ", 1)[1] for text in texts})
    assert families[0]
    assert families[1]
    assert not families[0] & families[1]


def test_what_cannot_be_paired_is_said(album: Path, tmp_path: Path) -> None:
    apart = tree(album)
    del apart["data"]["sources"]["text"]["pair_group"]
    with pytest.raises(ConfigError, match=r"needs image and text row by row: give both the same"):
        RunConfig.from_tree(apart)
    uneven = tree(album)
    uneven["data"]["sources"]["text"]["batch_size"] = 4
    with pytest.raises(ConfigError, match="'captions' differ in batch_size"):
        RunConfig.from_tree(uneven)
    with pytest.raises(ConfigError, match="no source 'picture'"):
        RunConfig.from_tree(tree(album, first={"source": "picture", "tower": "a", "joint": "b"}))
    twice = tree(album)
    twice["data"]["sources"]["image"]["source"]["pattern"] = "**/*.png **/*.gif"
    first = min(album.glob("*.png"))
    Image.new("L", (4, 4)).save(first.with_suffix(".gif"))
    with pytest.raises(DataError, match=r"\.gif and .*\.png have the same name without its"):
        Run.create(RunConfig.from_tree(twice), tmp_path / "twice")
    first.with_suffix(".gif").unlink()
    strangers = tree(album)
    other = tmp_path / "other"
    for i in range(40):
        write(other, f"x{i}", None, f"grey {i}")
    strangers["data"]["sources"]["text"]["source"]["path"] = str(other)
    run = Run.create(RunConfig.from_tree(strangers), tmp_path / "run")
    with pytest.raises(DataError, match=r"no record of the train side in common \(image \d+, text"):
        run.rows("train")
