"""Every recipe, found by walking the package: its config and its first 20 losses are golden.

After a wanted change: `BROADBASE_WRITE_GOLDEN=1 pytest tests/test_recipes.py`, and read the diff.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from broadbase.core.errors import ConfigError
from broadbase.recipes.listing import expected
from broadbase.recipes.recipe import all_recipes, find_recipe
from broadbase.recipes.resolve import resolve
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from conftest import cells_file
from support.videos import film, moving

GOLDEN = Path(__file__).parent / "golden"
LICENSE = Path(__file__).parent.parent / "LICENSE"
WRITE = bool(os.environ.get("BROADBASE_WRITE_GOLDEN"))
OWN_DATA = {"mixed"}  # recipes that take no --data


def resolved(name: str, depth: int, data: Path) -> RunConfig:
    return find_recipe(name).build(depth, None if name in OWN_DATA else str(data))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The licence as text, code and residues, some digits, and chains of carbon."""
    folder = tmp_path_factory.mktemp("corpus")
    for i, paragraph in enumerate(LICENSE.read_text().split("\n\n")):
        if paragraph.strip():
            (folder / f"{i:03d}.txt").write_text(paragraph)
            (folder / f"{i:03d}.py").write_text(paragraph)
            (folder / f"{i:03d}.fa").write_text(f">{i}\n" + re.sub("[^A-Z]", "", paragraph.upper()))
    chains = ("C" * i + tail for i in range(1, 9) for tail in ("O", "N", "Cl", "c1ccccc1", "C=O"))
    (folder / "chains.smi").write_text("\n".join(chains))
    film(folder / "square.mkv", moving(400))
    counts = np.random.default_rng(0).poisson([0.5, 3, 1] * 8, (60, 24)).astype(np.float32)
    cells_file(folder / "cells.h5ad", counts, [f"GENE{i}" for i in range(24)])
    for i in range(12):  # chirps
        time = np.arange(24_000) / 16_000
        chirp = 0.3 * np.sin(2 * np.pi * (200 + 60 * i) * time * (1 + time))
        soundfile.write(folder / f"{i:03d}.wav", chirp, 16_000)
    for i, image in enumerate(load_digits().images[:40]):
        Image.fromarray((image * 15).astype("uint8")).save(folder / f"{i:03d}.png")
    return folder


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_the_resolved_config_is_golden(name: str) -> None:
    text = resolved(name, 4, Path("DATA")).yaml()
    path = GOLDEN / f"{name}.yaml"
    if WRITE:
        path.write_text(text)
    assert text == path.read_text()
    assert RunConfig.from_tree(yaml.safe_load(text)).yaml() == text


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_depth_is_a_dial(name: str) -> None:
    sizes = []
    for depth in (1, 2, 4):
        config = resolved(name, depth, Path("DATA"))
        sizes.append(sum(p.numel() for p in config.model.build().parameters()))
    assert sizes == sorted(set(sizes))


def small(name: str, corpus: Path) -> RunConfig:
    """The recipe at depth 1 on the small corpus, 20 steps of few and short rows, 1000 molecules."""
    tree: dict[str, Any] = resolved(name, 1, corpus).tree()
    tree["train"] |= {"steps": 20, "evaluate_every": 20, "save_every": 20}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "matmul": "torch", "compile": "off"}
    tree["data"]["holdout"] = 0.2
    tree["schedule"]["warmup"] = 2
    for settings in tree["model"]["modalities"].values():
        if "vocab_size" in settings:
            settings["vocab_size"] = 300
        if "tokenizer" in settings:
            settings["tokenizer"] = str(tokenizer(corpus))
    for settings in tree["model"]["heads"].values():
        if "grace" in settings:
            settings["grace"] = 1.0  # four pictures a step may get one answer
    for source in tree["data"]["sources"].values():
        source["batch_size"] = 4
        if source["source"]["name"] in ("wheel_json", "standard_library"):
            source["source"] = {"name": "text_files", "path": str(corpus)}
            source["sequence_length"] = 32
        if "limit" in source["source"]:
            source["source"]["limit"] = 1000
    return RunConfig.from_tree(tree)


def tokenizer(corpus: Path) -> Path:
    """The vq recipe, trained on the small corpus once."""
    folder = corpus.parent / f"{corpus.name}-vq"
    if not folder.exists():
        Run.create(small("vq", corpus), folder).train()
    return folder


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_the_first_20_losses_are_golden(name: str, corpus: Path, tmp_path: Path) -> None:
    """Within 1 % for ten steps and 2 % then, as another processor, or memory that lies otherwise,
    rounds otherwise and steps build on it; a changed law moves them far more."""
    run = Run.create(small(name, corpus), tmp_path / "run")
    run.train()
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    curves = [row["loss"] for row in rows if "loss" in row]
    path = GOLDEN / "losses.json"
    golden = json.loads(path.read_text()) if path.exists() else {}
    if WRITE:
        golden[name] = [{k: float(f"{v:.5g}") for k, v in losses.items()} for losses in curves]
        path.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert len(curves) == 20
    for i, (mine, theirs) in enumerate(zip(curves, golden[name], strict=True)):
        assert mine == pytest.approx(theirs, rel=0.01 if i < 10 else 0.02)
    first, last = curves[0], curves[-1]
    parts = getattr(run.config.objective, "components", {})
    own = [term for term in first if "/" not in term or term.split("/")[0] in parts]
    assert not own or sum(last[t] for t in own) < sum(first[t] for t in own)  # penalties may rise


def test_what_is_expected_is_of_recipes_that_there_are() -> None:
    """The commands that `recipes` shows with their results build a config, settings and all."""
    assert len(expected()) >= 9
    for name, row in expected().items():
        words = shlex.split(row["command"])
        assert words[:3] == ["broadbase", "pretrain", name]
        assert words[3:5] == ["--data", words[4]]
        changes = [value for option, value in pairwise(words) if option == "--set"]
        assert resolve(name, words[4], None, changes).recipe == name
        assert row["seconds"] > 0


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no recipe 'txt'; did you mean `text`"):
        find_recipe("txt")


def test_data_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="add --data PATH"):
        find_recipe("text").build(4, None)
