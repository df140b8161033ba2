"""Programs for problems with tests: which are right, pass@k, and the command line."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject
from broadbase.data.samples.catalog import sample
from broadbase.data.sources.problems import Problem, ProblemsConfig
from broadbase.evaluate.pass_at_k import pass_at, passes_tests, solved_problems
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

DOUBLE = Problem(
    'def double(x):\n    """Twice x."""\n',
    "double",
    "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate('a') == 'aa'\n",
    "    return x + x\n",
)


@pytest.mark.usefixtures("wall")
@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (DOUBLE.canonical_solution, True),
        ("    return 2 * x\n", True),
        ("    return 4\n", False),
        ("    return (x\n", False),
        ("    while True: pass\n", False),
        ("    import sys; sys.exit(0)\n", False),
        ("    import os; os._exit(0)\n", False),
        ("    raise SystemExit\n", False),
    ],
)
def test_a_body_is_right_or_wrong(body: str, wanted: bool) -> None:
    assert passes_tests(DOUBLE, f"\n{body}") is wanted


@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("right", [0, 1, 4, 10])
def test_pass_at_k_is_the_share_of_all_choices(k: int, right: int) -> None:
    """Of all ways to choose k of 10, those with a right one."""
    drawn = [i < right for i in range(10)]
    chosen = [any(some) for some in combinations(drawn, k)]
    assert pass_at(k, 10, right) == pytest.approx(sum(chosen) / len(chosen))
    assert pass_at(10, 4, 1) == 1
    assert pass_at(10, 4, 0) == 0


def test_problems_are_read_and_others_named(tmp_path: Path) -> None:
    good = DOUBLE._asdict() | {"task_id": "a"}
    rows = [good, {"prompt": "x"}, {**good, "test": 3}, [1]]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, *others = ProblemsConfig(path=str(tmp_path)).records()
    assert isinstance(first, Record)
    assert first.raw == DOUBLE
    assert all(isinstance(each, Reject) for each in others)
    assert [each.origin[-1] for each in others] == ["2", "3", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A base of code that learned two functions by heart."""
    folder = tmp_path_factory.mktemp("passed")
    (folder / "code").mkdir()
    for i in range(60):
        text = f"def double(x):\n    return x + x\n\n\ndef name_{i}(x):\n    return {i}\n"
        (folder / "code" / f"{i}.py").write_text(text)
    tree: dict[str, Any] = find_recipe("code").build(1, str(folder / "code")).tree()
    tree["model"]["modalities"]["code"]["vocab_size"] = 300
    tree["data"] |= {"holdout": 0.3, "similarity": 1.0}
    tree["data"]["sources"]["code"] |= {"batch_size": 8, "sequence_length": 64}
    tree["train"] |= {"steps": 150, "evaluate_every": 150, "save_every": 150}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), folder / "run")
    run.train()
    return run


PLANTED = DOUBLE._replace(prompt="def double(x):\n")
IMPOSSIBLE = PLANTED._replace(test="def check(candidate):\n    assert candidate(2) == 5\n")


@pytest.mark.usefixtures("wall")
def test_the_measure(trained: Run, tmp_path: Path) -> None:
    """What the base knows by heart it solves, what cannot be solved it does not."""
    problems = [PLANTED, IMPOSSIBLE]
    path = tmp_path / "problems.jsonl"
    path.write_text("\n".join(json.dumps(each._asdict()) for each in problems))
    done = CliRunner().invoke(app, ["evaluate", str(trained.folder), "--data", str(path), "--json"])
    assert done.exit_code == 0, done.output
    rows = {(r["metric"], r["baseline"]): r for r in json.loads(done.stdout)}
    assert set(rows) == {
        (f"pass@{k}", name) for k in (1, 10) for name in ("canonical solutions", "empty function")
    }
    row = rows["pass@10", "canonical solutions"]
    assert (row["items"], row["score"], row["baseline_score"]) == (2, 0.5, 0.5)
    assert 0 < rows["pass@1", "canonical solutions"]["score"] <= 0.5
    assert rows["pass@1", "empty function"]["baseline_score"] == 0
    held_out = CliRunner().invoke(app, ["evaluate", str(trained.folder), "--json"])
    assert "bits per byte" in held_out.stdout
    assert "pass@1" not in held_out.stdout


def test_samples_go_on_after_a_prompt(trained: Run) -> None:
    base = load(trained.folder / "model")
    cold = SamplingConfig(temperature=0)
    texts = base.generate_batch(["def double(x):"] * 3, max_new_tokens=12, sampling=cold)
    assert texts == [base.generate("def double(x):", max_new_tokens=12, sampling=cold)] * 3
    assert texts[0].startswith("\n    return x + x\n")


def test_what_is_no_task_is_refused(trained: Run, tmp_path: Path) -> None:
    base = load(trained.folder / "model")
    with pytest.raises(DataError, match="holds no problems with tests"):
        list(solved_problems(base, "sample:python"))
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: no problem, with the fields prompt, entry"):
        list(solved_problems(base, str(tmp_path / "a.jsonl")))
    both = ["evaluate", str(trained.folder), "--data", "x", "--baseline", "y"]
    done = CliRunner().invoke(app, both)
    assert isinstance(done.exception, ConfigError)


@pytest.mark.usefixtures("wall")
@pytest.mark.slow
def test_humaneval_is_wired_right() -> None:
    """Every canonical solution passes its tests, and a body that does nothing passes none."""
    try:
        records = [r for r in sample("humaneval").source.records() if isinstance(r, Record)]
    except DataError as error:
        pytest.skip(str(error)[:200])
    problems = [record.raw for record in records]
    assert len(problems) == 164
    assert all(passes_tests(problem, f"\n{problem.canonical_solution}") for problem in problems)
    assert not any(passes_tests(problem, "\n    pass\n") for problem in problems)
