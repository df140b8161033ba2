"""Masked patches: bilinear interpolation is exact on a plane, and normalised patches compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broadbase.evaluate.masked_image import bilinear
from broadbase.evaluate.registry import evaluate
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


def test_a_plane_is_filled_exactly_inside() -> None:
    """Pixel = row + 10 * column: linear interpolation between visible pixels is exact."""
    patches = [(r, c) for r in range(4) for c in range(4)]
    picture = np.add.outer(np.arange(8.0), 10 * np.arange(8.0))
    values = np.array([picture[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].ravel() for r, c in patches])
    masked = [patches.index(p) for p in ((1, 1), (1, 2), (2, 2))]
    visible = [i for i in range(16) if i not in masked]
    at = np.array(patches)
    filled = bilinear(values[visible], at[visible], at[masked], patch=2, channels=1)
    np.testing.assert_allclose(filled, values[masked], atol=1e-9)


@pytest.mark.parametrize("normalise", [True, False])
def test_errors_are_of_the_values_that_the_model_predicts(normalise: bool, tmp_path: Path) -> None:
    """Random images: no baseline knows the shape of a masked patch, whose variance is 1."""
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    tree: dict[str, Any] = find_recipe("mae").build(1, str(tmp_path)).tree()
    tree["model"]["modalities"]["image"] |= {"height": 16, "width": 16, "patch": 4}
    tree["model"]["heads"]["pixels"] |= {"channels": 48, "normalise": normalise}
    tree["data"]["sources"]["image"] |= {"batch_size": 8, "sequence_length": 17}
    tree["data"]["holdout"] = 0.4
    tree["train"] |= {"steps": 2, "evaluate_every": 2, "save_every": 2}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    rows = {row.baseline: row for row in evaluate(run, load(tmp_path / "run" / "model"))}
    assert rows.keys() == {"bilinear interpolation", "mean of visible pixels"}
    for row in rows.values():
        assert row.metric.name.endswith("of normalised patches") is normalise
        assert row.items == 12 * len(run.rows("validation")["image"])
    mean = rows["mean of visible pixels"].other
    assert mean == pytest.approx(1 if normalise else 1 / 12, rel=0.05)
    assert rows["bilinear interpolation"].other > mean
