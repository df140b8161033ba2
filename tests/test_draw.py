"""Drawing: codes of a picture after its class, judged by a classifier of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.contracts import Record, Reject
from broadbase.core.errors import ConfigError
from broadbase.data.samples.catalog import DigitsConfig, sample
from broadbase.data.sources.files import ImageFilesConfig, TextFilesConfig
from broadbase.data.sources.labels import LabelsConfig
from broadbase.evaluate.image_generation import Real, classes_of, frechet
from broadbase.evaluate.registry import measured
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from test_codes import tokenizer  # noqa: F401


def test_labels_are_texts_of_the_same_keys(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / label / f"{label}1.png")
    pictures = ImageFilesConfig(path=str(tmp_path), labels="folder")
    texts = list(LabelsConfig(source=pictures).records())
    assert [t.raw for t in texts if isinstance(t, Record)] == ["cat", "dog"]
    keys = [r.key or r.place for r in pictures.records() if isinstance(r, Record)]
    assert [t.key for t in texts if isinstance(t, Record)] == keys
    (named, *_) = LabelsConfig(source=DigitsConfig(last=1), names=("nought",)).records()
    assert isinstance(named, Record)
    assert named.raw == "nought"
    first = DigitsConfig(first=5, last=6)  # a 5
    (wrong,) = LabelsConfig(source=first, names=("nought", "one")).records()
    assert isinstance(wrong, Reject)
    assert wrong.reason == "label '5' is no number below 2"
    (tmp_path / "a.txt").write_text("no label")
    (missing,) = LabelsConfig(source=TextFilesConfig(path=str(tmp_path))).records()
    assert isinstance(missing, Reject)
    assert "no label" in missing.reason


def test_articles_have_names() -> None:
    text = sample("fashion").beside["text"]
    assert isinstance(text, LabelsConfig)
    assert text.names[0] == "t-shirt"
    assert text.names[9] == "ankle boot"


def drawing(tokenizer: Path, out: Path) -> Run:  # noqa: F811
    tree: dict[str, Any] = find_recipe("draw").build(2, "sample:digits").tree()
    tree["model"]["modalities"]["codes"] |= {"tokenizer": str(tokenizer), "codes": 64}
    for source in tree["data"]["sources"].values():
        source |= {"rows": 32, "length": 17}
    tree["data"]["sources"]["words"] |= {"length": 4}
    tree["data"]["holdout"] = 0.2
    tree["train"] |= {"steps": 150, "evaluate_every": 150, "save_every": 150}
    tree["schedule"]["warmup"] = 10
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return run


def test_digits_are_drawn_as_asked(tokenizer: Path, tmp_path: Path) -> None:  # noqa: F811
    """More often of their class than drawings for others, and nearer than codes by frequency."""
    run = drawing(tokenizer, tmp_path / "run")
    rows = {(r.measure, r.baseline): r for r in measured(run, load(run.folder / "model"))}
    told = rows["class of a drawing", "drawn for another"]
    assert told.low > 0
    assert told.items == min(500, len(run.rows("validation")["codes"]))
    real = rows["class of a drawing", "real pictures"]
    assert real.other > 0.8
    assert real.high < 0
    assert rows["Fréchet distance", "codes by their frequency"].high < 0
    floor = rows["Fréchet distance", "real pictures"]
    assert 0 < floor.other < floor.base
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
    pictures, names = np.zeros((100, 4)), [f"name {i}" for i in range(100)]
    classes = ["red", "blue"] * 50
    teach, asked = classes_of(
        Real(pictures, classes, names), Real(pictures, classes[:3], names[:3])
    )
    assert (teach.tolist(), asked.tolist()) == (classes, ["red", "blue", "red"])
    teach, asked = classes_of(
        Real(pictures, names, classes), Real(pictures, names[:3], classes[:3])
    )
    assert (teach.tolist(), asked.tolist()) == (classes, ["red", "blue", "red"])
    for labels in (names, [None] * 100):
        with pytest.raises(ConfigError, match=r"100 different words .* at most 64 classes"):
            classes_of(Real(pictures, names, labels), Real(pictures, names, labels))
