"""A picture told in words by a base trained here: `generate --image` gives what is told of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, DataError
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run

NAMES = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, then their names: the recipe `draw` the other way round."""
    tree: dict[str, Any] = find_recipe("draw").build(2, "sample:digits").tree()
    sources = tree["data"]["sources"]
    sources["image"], sources["words"] = sources.pop("codes"), sources.pop("words")
    sources["image"] |= {"modality": "image", "batch_size": 32, "sequence_length": 17}
    sources["words"]["source"]["names"] = NAMES
    sources["words"] |= {"batch_size": 32, "sequence_length": 10}
    shape = {"name": "image", "height": 8, "width": 8, "channels": 1, "patch": 2}
    tree["model"]["modalities"] = {"image": shape, "bytes": {"name": "bytes"}}
    tree["objective"] |= {"source": "image", "target": "words"}
    tree["data"]["holdout"] = 0.2
    tree["train"] |= {"steps": 150, "evaluate_every": 150, "save_every": 150}
    tree["schedule"]["warmup"] = 10
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path_factory.mktemp("told") / "run")
    run.train()
    return run.folder


def shell(*words: object) -> Any:
    return CliRunner().invoke(app, ["generate", *map(str, words), "--temperature", "0", "--json"])


@pytest.mark.slow
def test_a_picture_is_reported(reported: Path, tmp_path: Path) -> None:
    """More often rightly than by chance, and on from what is begun."""
    digits, names = load_digits(), []
    for i in range(25):
        Image.fromarray((digits.images[i] * 255 / 16).astype(np.uint8)).save(tmp_path / f"{i}.png")
        done = shell(reported, "--image", tmp_path / f"{i}.png")
        assert done.exit_code == 0, done.output
        names.append(json.loads(done.stdout)["continuation"])
    right = [name == NAMES[n] for name, n in zip(names, digits.target[:25], strict=True)]
    assert np.mean(right) > 0.5
    five = names.index("five")
    done = shell(reported, "--image", tmp_path / f"{five}.png", "--prompt", "fi")
    assert json.loads(done.stdout) == {"prompt": "fi", "continuation": "ve"}
    copy = shutil.copytree(reported / "model", tmp_path / "copy")
    away = reported.rename(tmp_path / "away")  # the copy needs no run
    again = shell(copy, "--image", tmp_path / f"{five}.png", "--prompt", "fi")
    away.rename(reported)
    assert again.stdout == done.stdout


def test_what_cannot_be_reported_of_is_named(reported: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 8)).save(tmp_path / "large.png")
    for words, kind, message in (
        (("--image", tmp_path / "no.png"), DataError, r"no\.png cannot be read"),
        (("--image", tmp_path / "large.png") * 2 + ("--prompt", "s"), ConfigError, "one at a time"),
        ((), ConfigError, "add --prompt"),
        (("--prompt", "seven"), DataError, "cannot be read as image: "),
    ):
        done = shell(reported, *words)
        assert isinstance(done.exception, kind)
        assert re.search(message, str(done.exception))
