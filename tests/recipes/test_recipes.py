"""Every recipe, found by walking the package: its config and its first 20 losses are golden.

After a wanted change run `BROADBASE_WRITE_GOLDEN=1 pytest tests/recipes/test_recipes.py` and read
the diff.
"""

from __future__ import annotations

import json
import os
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from broadbase.core.errors import ConfigError
from broadbase.recipes.listing import expected
from broadbase.recipes.recipe import all_recipes, find_recipe
from broadbase.recipes.resolve import resolve
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from support.paths import GOLDEN
from support.recipes import resolved, small

WRITE = bool(os.environ.get("BROADBASE_WRITE_GOLDEN"))


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
    for i, (ours, reference) in enumerate(zip(curves, golden[name], strict=True)):
        assert ours == pytest.approx(reference, rel=0.01 if i < 10 else 0.02)
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


def test_data_is_requested_for() -> None:
    with pytest.raises(ConfigError, match="add --data PATH"):
        find_recipe("text").build(4, None)
