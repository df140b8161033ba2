"""Exact match of spans: what the document says elsewhere is learned."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from broadbase.evaluate.registry import evaluate
from broadbase.evidence.comparison import Comparison
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose every letter is repeated 8 tokens later, so that both sides of a gap give it."""
    folder, rng = tmp_path_factory.mktemp("pages"), random.Random(0)
    for i in range(200):
        word = "".join(rng.choices("abcdefgh", k=8))
        (folder / f"{i}.txt").write_text(word * 6)
    return folder


def trained(recipe: str, data: Path, out: Path, steps: int) -> list[Comparison]:
    tree: dict[str, Any] = find_recipe(recipe).build(2, str(data)).tree()
    tree["train"] |= {"steps": steps, "evaluate_every": steps, "save_every": steps}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["data"]["holdout"] = 0.2
    tree["schedule"]["warmup"] = 10
    tree["optim"]["lr"] = 6e-3
    for name, settings in tree["model"]["modalities"].items():
        controls = settings["extra_ids"]
        tree["model"]["modalities"][name] = {"name": "bytes", "extra_ids": controls}
    for source in tree["data"]["sources"].values():
        source |= {"batch_size": 32, "sequence_length": 52}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return evaluate(run, load(out / "model"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["t5", "bart"])
def test_a_repeated_letter_is_restored_after_training_and_not_before(
    recipe: str, pages: Path, tmp_path: Path
) -> None:
    fresh = {row.baseline: row for row in trained(recipe, pages, tmp_path / "one", 1)}
    rows = {row.baseline: row for row in trained(recipe, pages, tmp_path / "run", 200)}
    assert rows.keys() == {"unigram", "5-gram, rows seen"}
    assert fresh["unigram"].model < 0.1
    for row in rows.values():
        assert row.items > 50
        assert row.model > fresh["unigram"].model + 0.1
        assert row.gap.low <= row.gap.mean <= row.gap.high
        assert row.gap.mean == pytest.approx(row.model - row.other)
    assert rows["unigram"].verdict == "better"
