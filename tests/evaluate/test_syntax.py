"""Generated programs: what counts as one, and the measure on a model trained on code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broadbase.evaluate.registry import evaluate
from broadbase.evaluate.syntax import parses
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\ny = (x +", True),  # cut at its last line
        ("x = (1\n", False),
        ("# only a remark\n", False),
        ("no line break", False),
        ("def f(:\n    pass\n", False),
        ("\x00\n", False),
    ],
)
def test_complete_lines_with_a_statement(text: str, expected: bool) -> None:
    assert parses(text) is expected


def test_programs_against_a_5_gram_and_real_ones(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for i in range(60):
        lines = [f"value_{i} = {i}", f"print(value_{i})", f"for n in range({i}):", "    print(n)"]
        (tmp_path / "code" / f"{i}.py").write_text("\n".join(lines * 6) + "\n")
    tree: dict[str, Any] = find_recipe("code").build(1, str(tmp_path / "code")).tree()
    tree["model"]["modalities"]["code"]["vocab_size"] = 300
    tree["data"]["holdout"] = 0.3
    tree["train"] |= {"steps": 30, "evaluate_every": 30, "save_every": 30}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    rows = {
        r.baseline: r for r in evaluate(run, load(run.folder / "model")) if "parse" in r.metric.name
    }
    assert set(rows) == {"5-gram, rows seen", "real programs"}
    assert rows["real programs"].other == 1
    assert 0 <= rows["real programs"].model <= 1
    assert rows["real programs"].items == len(run.stores["code"].split("validation"))
