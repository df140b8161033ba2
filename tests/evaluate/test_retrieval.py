"""Retrieval and zero-shot classification: what a text says of an image is learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from broadbase.evaluate.records import paired_records
from broadbase.evaluate.registry import evaluate
from broadbase.evaluate.retrieval import ranks
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


def test_ranks_count_the_wrong_partners_that_are_nearer() -> None:
    first = torch.eye(3)
    second = torch.tensor([[0.9, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    there, back = ranks(first, second)
    assert there == [1, 0, 0]  # the first is nearer to the second's partner (1.0) than to its own
    assert back == [0, 1, 0]


def album(folder: Path) -> None:
    """Write 160 images of one of 8 greys in one half or both, and texts that say which."""
    for i in range(160):
        grey, left = i % 8, i // 8 % 2
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[:, : 16 if left else 32] = 30 * grey
        home = folder / f"grey-{grey}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(home / f"{i}.png")
        (home / f"{i}.txt").write_text(f"grey {grey} {'left' if left else 'all'} number {i}")


@pytest.mark.parametrize("recipe", ["clip", "siglip"])
def test_what_a_text_says_is_retrieved(recipe: str, tmp_path: Path) -> None:
    """16 kinds of images: after training, recall is above chance and above random init.

    Wordings of a label that no text has also name its images.
    """
    album(tmp_path / "album")
    tree = find_recipe(recipe).build(1, str(tmp_path / "album")).tree()
    tree["train"] |= {"steps": 120, "evaluate_every": 120, "save_every": 120}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    tree["model"]["modalities"]["image"] |= {"height": 8, "width": 8, "patch": 4}
    tree["model"]["modalities"]["text"]["vocab_size"] = 300
    tree["data"]["holdout"] = 0.4
    tree["data"]["sources"]["image"]["source"]["labels"] = "folder"
    for source in tree["data"]["sources"].values():
        source["batch_size"] = 16
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    comparisons = evaluate(run, load(tmp_path / "run" / "model"))
    zero_shot = {c.baseline: c for c in comparisons if c.metric.name == "zero-shot accuracy"}
    assert zero_shot.keys() == {"random init", "most frequent class"}
    assert zero_shot["most frequent class"].verdict == "better"
    classes = {record.label for record in paired_records(run, "image", "validation")}
    balanced = {c.baseline: c for c in comparisons if "balanced" in c.metric.name}
    assert balanced["most frequent class"].other == pytest.approx(1 / len(classes))
    assert balanced["most frequent class"].verdict == "better"
    rows = [c for c in comparisons if not c.metric.name.startswith("zero-shot")]
    assert {(c.subject, c.metric.name) for c in rows} == {
        (subject, f"recall@{k}") for subject in ("image > text", "text > image") for k in (1, 10)
    }
    for row in rows:
        assert row.gap.low <= row.gap.mean <= row.gap.high
        assert row.items == len(run.rows("validation")["text"])
        if row.metric.name == "recall@10":
            assert row.verdict == "better", row
            if row.baseline == "chance":
                assert row.other == pytest.approx(10 / row.items)
