"""Which measures fit which run, what is refused, and comparison with another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broadbase.core.errors import ConfigError
from broadbase.evaluate import registry
from broadbase.evaluate.registry import (
    Measure,
    all_measures,
    evaluate,
    evaluate_against,
    evaluate_task,
)
from broadbase.evidence.comparison import Comparison, Metric
from broadbase.evidence.interval import Interval
from broadbase.objectives.causal import CausalConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

ROW = Comparison("s", Metric("m", "lower"), "b", 2, 1.0, 2.0, Interval(-1.0, -2.0, 0.0))


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    for i in range(40):
        words = np.random.default_rng(i).choice(["one ", "two ", "three ", "four "], 60)
        (folder / f"{i}.txt").write_text("".join(words))
    return folder


def trained(notes: Path, out: Path, seed: int = 0, **changes: Any) -> Run:
    tree = find_recipe("bytes").build(1, str(notes)).tree() | {"seed": seed} | changes
    tree["train"] |= {"steps": 1, "evaluate_every": 1, "save_every": 1}
    tree["data"]["holdout"] = 0.2
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), out)
    run.train()
    return run


@pytest.fixture(scope="module")
def run(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(notes, tmp_path_factory.mktemp("run") / "run")


def refuses(*_: object) -> list[Comparison]:
    raise ConfigError("set it up otherwise")


def test_a_measure_that_fits_and_refuses_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another measure gives comparisons; one that does not apply is not computed."""
    base = load(run.folder / "model")
    gives = Measure((CausalConfig,), lambda *_: [ROW])
    fits = Measure((CausalConfig,), refuses)
    other = Measure((CausalConfig,), refuses, applies=lambda *_: False)
    monkeypatch.setattr(registry, "all_measures", lambda: [gives, other])
    assert evaluate(run, base) == [ROW]
    monkeypatch.setattr(registry, "all_measures", lambda: [gives, fits])
    with pytest.raises(ConfigError, match="set it up otherwise"):
        evaluate(run, base)


def test_measures_of_runs_and_of_tasks_are_apart(run: Run) -> None:
    """Text has no task: the error names what has one, which is code."""
    base = load(run.folder / "model")
    with pytest.raises(ConfigError, match=r"no measure of objective 'causal' .* bytes; .*\(code\)"):
        evaluate_task(run, base, "sample:humaneval")
    assert {row.metric.name for row in evaluate(run, base)} == {"bits per byte"}


def test_an_objective_without_a_measure_is_refused(notes: Path, tmp_path: Path) -> None:
    run = trained(notes, tmp_path / "run", objective={"name": "prefix"})
    with pytest.raises(ConfigError, match="no measure of objective 'prefix'"):
        evaluate(run, load(run.folder / "model"))


def test_another_model_is_compared_document_by_document(
    run: Run, notes: Path, tmp_path: Path
) -> None:
    other = load(trained(notes, tmp_path / "other", seed=1).folder / "model")
    base = load(run.folder / "model")
    *rows, row = evaluate_against(run, base, other, "other")
    assert rows == evaluate(run, base)
    assert (row.baseline, row.model) == ("other", rows[0].model)
    assert row.other == evaluate(run, other)[0].model
    assert row.gap.mean == pytest.approx(row.model - row.other)
    assert evaluate_against(run, base, base, "same")[-1].gap == (0, 0, 0)


def test_measures_name_their_targets() -> None:
    targets = {target for measure in all_measures() for target in measure.targets}
    assert {"causal", "causal (code)", "mae (audio)", "mae (video)", "masked (cell)"} <= targets
    assert all(name and not name.startswith(" ") and "(," not in name for name in targets)


def test_masked_vectors_have_no_accuracy(tmp_path: Path) -> None:
    """Ids are right or wrong, vectors are not: the measure of ids does not fit them."""
    tree = find_recipe("image").build(1, "sample:digits").tree()
    tree["model"]["modalities"]["image"] |= {"height": 8, "width": 8, "channels": 1, "patch": 2}
    tree["data"]["sources"]["image"] |= {"batch_size": 8, "sequence_length": 17}
    tree["objective"] = {"name": "masked"}
    tree["train"] |= {"steps": 1, "evaluate_every": 1, "save_every": 1}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    run = Run.create(RunConfig.from_tree(tree), tmp_path / "run")
    run.train()
    with pytest.raises(ConfigError, match="no measure of objective 'masked' for data of modality"):
        evaluate(run, load(tmp_path / "run" / "model"))
