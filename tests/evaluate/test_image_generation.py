"""Generated images: of the class of their prompt, and near to real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError
from broadbase.evaluate.image_generation import RealImages, classes_of, frechet
from broadbase.evaluate.registry import evaluate
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


def trained(tokenizer: Path, out: Path) -> Run:
    tree: dict[str, Any] = find_recipe("draw").build(2, "sample:digits").tree()
    tree["model"]["modalities"]["codes"] |= {"tokenizer": str(tokenizer), "codes": 64}
    for source in tree["data"]["sources"].values():
        source |= {"batch_size": 32, "sequence_length": 17}
    tree["data"]["sources"]["words"] |= {"sequence_length": 4}
    tree["data"]["holdout"] = 0.2
    tree["train"] |= {"steps": 150, "evaluate_every": 150, "save_every": 150}
    tree["schedule"]["warmup"] = 10
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return run


@pytest.mark.slow
def test_digits_are_of_the_class_of_their_prompt(tokenizer: Path, tmp_path: Path) -> None:
    """More often than those for other prompts, and nearer to real ones than codes by frequency."""
    run = trained(tokenizer, tmp_path / "run")
    rows = {(r.metric.name, r.baseline): r for r in evaluate(run, load(run.folder / "model"))}
    accuracy, distance = "accuracy of generated images", "Fréchet distance"
    shuffled = rows[accuracy, "another record's prompt"]
    assert shuffled.verdict == "better"
    assert shuffled.items == min(500, len(run.rows("validation")["codes"]))
    real = rows[accuracy, "real images"]
    assert real.other > 0.8
    assert real.verdict == "worse"
    assert rows[distance, "codes sampled by frequency"].verdict == "better"
    floor = rows[distance, "real images"]
    assert 0 < floor.other < floor.model
    words = ["generate", str(run.folder), "--out", str(tmp_path / "7.png"), "--prompt", "7"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "7.png") as picture:
        assert picture.size == (8, 8)
        assert np.asarray(picture).std() > 10
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, ConfigError)
    assert "is there already" in str(again.exception)
    done = CliRunner().invoke(app, words[:2])
    assert isinstance(done.exception, ConfigError)
    assert "add --prompt" in str(done.exception)


def test_the_distance_is_that_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(200_000, 2)) * [1.0, 2.0]
    other = rng.normal(size=(200_000, 2)) * [3.0, 2.0] + [0.0, 5.0]
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet(one, other) == pytest.approx(25 + 4, rel=0.02)  # means, then (3 - 1)^2


def test_names_are_judged_by_the_labels_of_what_they_name() -> None:
    """Few words are classes; many are names, whose records then have to have labels."""
    images, names = np.zeros((100, 4)), [f"name {i}" for i in range(100)]
    classes = ["red", "blue"] * 50
    fitted, prompted = classes_of(
        RealImages(images, classes, names), RealImages(images, classes[:3], names[:3])
    )
    assert (fitted.tolist(), prompted.tolist()) == (classes, ["red", "blue", "red"])
    fitted, prompted = classes_of(
        RealImages(images, names, classes), RealImages(images, names[:3], classes[:3])
    )
    assert (fitted.tolist(), prompted.tolist()) == (classes, ["red", "blue", "red"])
    for labels in (names, [None] * 100):
        with pytest.raises(ConfigError, match=r"100 different words .* at most 64 classes"):
            classes_of(RealImages(images, names, labels), RealImages(images, names, labels))
