"""Restoring: what can be known is told, what cannot is not, and filling a plane is exact."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broadbase.core.errors import ConfigError, DataError
from broadbase.evaluate.masked_image import bilinear
from broadbase.evaluate.registry import Measured, compared, measured
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose every letter stands again 8 places later: both sides of a gap tell it."""
    folder, rng = tmp_path_factory.mktemp("pages"), random.Random(0)
    for i in range(200):
        word = "".join(rng.choices("abcdefgh", k=8))
        (folder / f"{i}.txt").write_text(word * 6)
    return folder


def trained(recipe: str, data: Path, out: Path, steps: int) -> list[Measured]:
    tree: dict[str, Any] = find_recipe(recipe).build(2, str(data)).tree()
    tree["train"] |= {"steps": steps, "evaluate_every": steps, "save_every": steps}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["data"]["holdout"] = 0.2
    tree["schedule"]["warmup"] = 10
    tree["optim"]["lr"] = 6e-3
    for name, settings in tree["model"]["modalities"].items():
        controls = settings["controls"]
        tree["model"]["modalities"][name] = {"name": "bytes", "controls": controls}
    for source in tree["data"]["sources"].values():
        source |= {"rows": 32, "length": 52}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return measured(run, load(out / "model"))


@pytest.mark.parametrize("recipe", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_a_repeated_letter_is_told_after_training_and_not_before(
    recipe: str, pages: Path, tmp_path: Path
) -> None:
    fresh = {row.baseline: row for row in trained(recipe, pages, tmp_path / "one", 1)}
    rows = {row.baseline: row for row in trained(recipe, pages, tmp_path / "run", 150)}
    assert rows.keys() == {"unigram", "5-gram, rows seen"}
    assert fresh["unigram"].base < 0.1
    for row in rows.values():
        assert row.items > 50
        assert row.base > fresh["unigram"].base + 0.1
        assert row.low <= row.difference <= row.high
        assert row.difference == pytest.approx(row.base - row.other)
    assert rows["unigram"].low > 0


def test_an_objective_without_a_measure_is_refused(pages: Path, tmp_path: Path) -> None:
    tree = find_recipe("bytes").build(1, str(pages)).tree()
    tree["train"]["steps"], tree["data"]["holdout"] = 1, 0.2
    tree["objective"] = {"name": "prefix"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    with pytest.raises(ConfigError, match="no measure of objective 'prefix'"):
        measured(run, load(tmp_path / "run" / "model"))


def test_a_plane_is_filled_exactly_inside() -> None:
    """Pixel = row + 10 * column: linear interpolation between seen pixels is exact."""
    patches = [(r, c) for r in range(4) for c in range(4)]
    picture = np.add.outer(np.arange(8.0), 10 * np.arange(8.0))
    values = np.array([picture[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].ravel() for r, c in patches])
    hidden = [patches.index(p) for p in ((1, 1), (1, 2), (2, 2))]
    seen = [i for i in range(16) if i not in hidden]
    places = np.array(patches)
    filled = bilinear(values[seen], places[seen], places[hidden], patch=2, channels=1)
    np.testing.assert_allclose(filled, values[hidden], atol=1e-9)


def test_one_held_out_record_is_too_few_to_compare() -> None:
    with pytest.raises(DataError, match=r"letters: 1 held-out record\(s\) are too few"):
        list(compared("letters", "exact", {"base": [[1.0, 0.0]], "other": [[0.0, 0.0]]}))
