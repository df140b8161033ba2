"""Any kind to any: recall where it is known, and of a pair that was never trained."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from broadbase.evaluate.any_to_any import Alike
from broadbase.evaluate.registry import measured
from broadbase.recipes.recipe import find_recipe
from broadbase.report.charts import matrix
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

KINDS = ("image", "text", "audio")


def test_recall_of_planted_vectors_is_known() -> None:
    """Eight records on a ring, each moved by one: the right one is second; of a group, first."""
    i, j = np.indices((8, 8))
    scores = -np.minimum((j - i - 1) % 8, (i + 1 - j) % 8).astype(float)
    alone = Alike([str(i) for i in range(8)], [""] * 8)
    assert alone.recall(scores, 1).tolist() == [0.0] * 8
    assert alone.recall(scores, 2).tolist() == [0.0] * 8  # as near as its other neighbour
    assert alone.recall(scores, 3).tolist() == [1.0] * 8
    twins = Alike([str(i // 2) for i in range(8)], [""] * 8)
    assert twins.recall(scores, 1).tolist() == [1.0, 0.0] * 4
    assert twins.by_group(twins.recall(scores, 1)) == [[1.0, 0.0]] * 4


def test_records_of_another_label_are_not_in_the_gallery() -> None:
    scores = np.array([[0.0, 1, 0], [2, 1, 0], [0, 0, 0]])
    groups = ["a", "b", "c"]
    assert Alike(groups, ["x"] * 3).recall(scores, 1).tolist() == [0, 0, 0]
    assert Alike(groups, ["x", "y", "z"]).recall(scores, 1).tolist() == [1, 1, 1]


def test_numbers_are_standard_within_their_label() -> None:
    found = Alike(["a", "b", "c", "d"], ["x", "y", "x", "y"]).standard(np.array([1.0, 50, 3, 50]))
    assert found.tolist() == [-1, 0, 1, 0]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_chance_is_what_random_vectors_reach(k: int) -> None:
    rng = np.random.default_rng(0)
    groups, labels = [str(i // 3) for i in range(30)], ["xy"[i % 2] for i in range(30)]
    alike = Alike(groups, labels)
    drawn = np.mean([alike.recall(rng.random((30, 30)), k) for _ in range(2000)], axis=0)
    assert drawn == pytest.approx(alike.chance(k), abs=0.05)


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


def test_a_pair_never_trained_is_found(tmp_path: Path) -> None:
    """Pictures and sounds never met but through names; each finds the other above chance."""
    (tmp_path / "things").mkdir()
    things(tmp_path / "things")
    tree = find_recipe("bind").build(1, str(tmp_path / "things")).tree()
    tree["train"] |= {"steps": 80, "evaluate_every": 80, "save_every": 80}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["model"]["modalities"]["image"] |= {"height": 8, "width": 8, "patch": 4}
    tree["model"]["modalities"]["text"]["vocabulary"] = 300
    tree["data"]["holdout"] = 0.4
    for name, source in tree["data"]["sources"].items():
        source |= {"rows": 16, "length": {"pictures": 5, "sounds": 5}.get(name, 24)}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    rows = measured(run, load(tmp_path / "run" / "model"))
    found = {(r.source, r.measure): r for r in rows if r.baseline == "chance"}
    unseen = {frozenset(("image", "audio"))}
    assert found.keys() == {
        (f"{a} > {b}" + ", never paired" * (frozenset((a, b)) in unseen), f"recall@{k}")
        for a, b in permutations(KINDS, 2)
        for k in (1, 10)
    }
    assert {r.baseline for r in rows} == {"chance", "random init"}  # all names are of one length
    for (name, measure), row in found.items():
        assert row.items == len(run.rows("validation")["names"])
        if measure == "recall@10":
            assert row.low > 0, name
    drawing = ElementTree.parse(run.folder / "matrix.svg").getroot()
    framed = [e for e in drawing.iter() if "stroke" in e.attrib]
    assert len(framed) == 2


def test_a_matrix_is_drawn_whole() -> None:
    cells = {("a", "<b>"): (0.5, "0.50", "x", True), ("<b>", "a"): (2.0, "2", "y", False)}
    root = ElementTree.fromstring(matrix(("a", "<b>"), cells))
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("<b>") == 2
    assert {"0.50", "x", "2", "y"} <= set(words)
    shades = [e.get("fill-opacity") for e in root.iter() if e.get("fill-opacity")]
    assert shades == ["0.30", "0.60"]
