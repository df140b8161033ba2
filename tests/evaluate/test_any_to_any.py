"""Any modality to any other: recall of planted vectors, and of a pair that was never trained."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from broadbase.evaluate.any_to_any import Gallery
from broadbase.evaluate.registry import evaluate
from broadbase.recipes.recipe import find_recipe
from broadbase.report.charts import recall_matrix
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

MODALITIES = ("image", "text", "audio")


def test_recall_of_planted_vectors() -> None:
    """Eight records on a ring, each moved by one: the right one is second, or first of a group."""
    i, j = np.indices((8, 8))
    scores = -np.minimum((j - i - 1) % 8, (i + 1 - j) % 8).astype(float)
    alone = Gallery([str(i) for i in range(8)], [""] * 8)
    assert alone.recall(scores, 1).tolist() == [0.0] * 8
    assert alone.recall(scores, 2).tolist() == [0.0] * 8  # as near as its other neighbour
    assert alone.recall(scores, 3).tolist() == [1.0] * 8
    twins = Gallery([str(i // 2) for i in range(8)], [""] * 8)
    assert twins.recall(scores, 1).tolist() == [1.0, 0.0] * 4
    assert twins.by_group(twins.recall(scores, 1)) == [[1.0, 0.0]] * 4


def test_records_of_another_label_are_not_in_the_gallery() -> None:
    scores = np.array([[0.0, 1, 0], [2, 1, 0], [0, 0, 0]])
    groups = ["a", "b", "c"]
    assert Gallery(groups, ["x"] * 3).recall(scores, 1).tolist() == [0, 0, 0]
    assert Gallery(groups, ["x", "y", "z"]).recall(scores, 1).tolist() == [1, 1, 1]


def test_numbers_are_standard_within_their_label() -> None:
    scaled = Gallery(["a", "b", "c", "d"], ["x", "y", "x", "y"]).standardise(
        np.array([1.0, 50, 3, 50])
    )
    assert scaled.tolist() == [-1, 0, 1, 0]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_chance_is_what_random_vectors_reach(k: int) -> None:
    rng = np.random.default_rng(0)
    groups, labels = [str(i // 3) for i in range(30)], ["xy"[i % 2] for i in range(30)]
    gallery = Gallery(groups, labels)
    recall = np.mean([gallery.recall(rng.random((30, 30)), k) for _ in range(2000)], axis=0)
    assert recall == pytest.approx(gallery.chance(k), abs=0.05)


def things(folder: Path) -> None:
    """160 records of one of 8 kinds: a grey, its name, a tone of its pitch."""
    time, rng = np.arange(4000) / 16_000, np.random.default_rng(0)
    for i in range(160):
        kind = i % 8
        pixels = np.clip(30 * kind + rng.integers(0, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"grey {kind} number {i}")
        tone = 0.3 * np.sin(2 * np.pi * 200 * 1.4**kind * time) + rng.normal(0, 0.01, len(time))
        soundfile.write(folder / f"{i}.wav", tone, 16_000)


@pytest.mark.slow
def test_a_pair_never_trained_is_retrieved(tmp_path: Path) -> None:
    """Images and sounds met only through names, and each finds the other above chance."""
    (tmp_path / "things").mkdir()
    things(tmp_path / "things")
    tree = find_recipe("bind").build(1, str(tmp_path / "things")).tree()
    tree["train"] |= {"steps": 80, "evaluate_every": 80, "save_every": 80}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["model"]["modalities"]["image"] |= {"height": 8, "width": 8, "patch": 4}
    tree["model"]["modalities"]["text"]["vocab_size"] = 300
    tree["data"]["holdout"] = 0.4
    for name, source in tree["data"]["sources"].items():
        source |= {"batch_size": 16, "sequence_length": {"pictures": 5, "sounds": 5}.get(name, 24)}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    rows = evaluate(run, load(tmp_path / "run" / "model"))
    chance = {(r.subject, r.metric.name): r for r in rows if r.baseline == "chance"}
    unseen = {frozenset(("image", "audio"))}
    assert chance.keys() == {
        (f"{a} > {b}" + ", never paired" * (frozenset((a, b)) in unseen), f"recall@{k}")
        for a, b in permutations(MODALITIES, 2)
        for k in (1, 10)
    }
    assert {r.baseline for r in rows} == {"chance", "random init"}  # all names are of one length
    for (name, metric), row in chance.items():
        assert row.items == len(run.rows("validation")["names"])
        if metric == "recall@10":
            assert row.verdict == "better", name
    drawing = ElementTree.fromstring(recall_matrix(rows) or "")
    framed = [e for e in drawing.iter() if "stroke" in e.attrib]
    assert len(framed) == 2
