"""`auto` chooses a method by cross-validation on the labels, and is saved as the chosen one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifierCV
from typer.testing import CliRunner

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import folds, learn
from broadbase.adapt.method import Fitted, MethodConfig, Selection
from broadbase.adapt.methods.auto import CANDIDATES, AutoConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.ridge import LeftOut
from broadbase.adapt.selecting import deviation, parts_of
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.commands.work.adapt import method_of
from broadbase.core.errors import ConfigError
from broadbase.weights.folder import save
from support.adapting import Given, saved, score
from support.bases import mixed_base

VECTORS = ("centroids", "knn", "probe")  # what needs no base that reads text


def selection(fitted: Fitted) -> Selection:
    assert fitted.selection is not None
    return fitted.selection


def clouds(each: int, apart: float, size: int = 12, classes: int = 3) -> tuple[Task, Given]:
    """Records around a middle of their class."""
    rng, labels = np.random.default_rng(0), np.arange(each * classes) % classes
    rows = apart * np.eye(size)[labels] + rng.normal(size=(len(labels), size))
    raws = [str(i) for i in range(len(labels))]
    task = Task.from_records("clouds", "bytes", raws, [str(label) for label in labels])
    return task, Given(task, rows.astype(np.float32))


def rings(each: int) -> tuple[Task, Given]:
    """Classes of four clouds at the corners of a square, opposite ones of one class: no linear map
    tells them apart."""
    rng, labels = np.random.default_rng(0), np.arange(each * 2) % 2
    corner = np.array([[[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])[
        labels, rng.integers(2, size=each * 2)
    ]
    rows = corner + 0.2 * rng.normal(size=(len(labels), 2))
    raws = [str(i) for i in range(len(labels))]
    task = Task.from_records("rings", "bytes", raws, [str(label) for label in labels])
    return task, Given(task, rows.astype(np.float32))


def letters(count: int = 60) -> Task:
    raws = [f"{'aaaaaaaa' if i % 2 else 'zzzzzzzz'}{i // 2}" for i in range(count)]
    return Task.from_records("letters", "bytes", raws, [raw[0] * 2 for raw in raws])


def test_it_chooses_the_only_method_that_can_learn_the_task() -> None:
    task, encoder = rings(60)
    train, test = np.arange(80), np.arange(80, 120)
    fitted = AutoConfig(candidates=VECTORS).fit(encoder, task, train)
    assert selection(fitted).method == KnnConfig()
    assert score(fitted, task, test) > 0.9
    assert "highest, above cheaper methods" in selection(fitted).reason
    scores = {row["method"]: row["score"] for row in selection(fitted).trials}
    assert max(scores["centroids"], scores["probe"]) < 0.7 < 0.9 < scores["knn"]


def test_of_equals_it_chooses_the_first() -> None:
    """All methods learn clouds that are far apart; the order alone decides."""
    task, encoder = clouds(10, apart=20.0)
    for names in (VECTORS, VECTORS[::-1], ("knn", "probe", "centroids")):
        fitted = AutoConfig(candidates=names).fit(encoder, task, np.arange(30))
        assert selection(fitted).method.name == names[0]


def test_what_it_learned_is_what_the_chosen_method_learns() -> None:
    task, encoder = clouds(10, apart=2.0)
    train = np.random.default_rng(1).permutation(30)[:24]
    for name in VECTORS:
        fitted = AutoConfig(candidates=(name,)).fit(encoder, task, train)
        alone = method_of(name).fit(encoder, task, train)
        assert fitted.parameters == alone.parameters
        np.testing.assert_array_equal(
            fitted.outputs(task.inputs(np.arange(30))), alone.outputs(task.inputs(np.arange(30)))
        )


def test_it_reads_no_record_but_those_to_learn_from() -> None:
    """Other labels of the other records change nothing."""
    task, encoder = clouds(12, apart=1.0)
    train, labels = np.arange(20), task.labels.copy()
    labels[20:] = (labels[20:] + 1) % 3
    first, second = (
        AutoConfig(candidates=VECTORS).fit(encoder, each, train)
        for each in (task, replace(task, labels=labels))
    )
    assert first.arrays().keys() == second.arrays().keys()
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])


@pytest.mark.parametrize("each", [1, 2, 3])
def test_few_labels_of_a_class(each: int) -> None:
    task, encoder = clouds(each, apart=20.0)
    fitted = AutoConfig(candidates=VECTORS).fit(encoder, task, np.arange(3 * each))
    assert selection(fitted).method == CentroidsConfig()
    assert ("too few for cross-validation" in selection(fitted).reason) == (each == 1)
    assert score(fitted, task, np.arange(3 * each)) == 1


def test_few_labels_of_many_classes_print_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    task, encoder = clouds(2, apart=20.0, size=25, classes=25)
    AutoConfig(candidates=VECTORS).fit(encoder, task, np.arange(50))
    assert not [str(warning.message) for warning in recwarn]


def test_no_labels_leave_what_needs_none() -> None:
    task, base = letters(), mixed_base()
    method = AutoConfig(candidates=("probe", {"name": "names", "phrases": {"aa": "aaaa"}}))
    assert not method.needs_labels
    fitted = method.fit(Encoder(base, "bytes"), task, np.zeros(0, dtype=np.int64))
    assert selection(fitted).method == NamesConfig(phrases={"aa": "aaaa"})
    assert selection(fitted).trials[-1]["note"].startswith("not tried: probe learns from")
    assert AutoConfig(candidates=VECTORS).needs_labels


def test_a_method_that_trains_the_base_is_tried_where_the_budget_allows_it() -> None:
    task, base = letters(), mixed_base()
    small = FinetuneConfig(steps=2, batch=4, lr=1e-4)
    fitted = AutoConfig(candidates=("knn", small)).fit(Encoder(base, "bytes"), task, np.arange(20))
    assert selection(fitted).method == KnnConfig()
    assert (
        "record 3 times, and the budget is 1 (--set budget=3)"
        in selection(fitted).trials[1]["note"]
    )
    alone = AutoConfig(candidates=(small,), budget=3)
    fitted = alone.fit(Encoder(base, "bytes"), task, np.arange(20))
    assert selection(fitted).method == small
    assert selection(fitted).trials[0]["bytes"] == 4 * fitted.parameters > 1000


@pytest.mark.parametrize("candidates", [("probe",), ("knn",), ({"name": "finetune", "steps": 2},)])
def test_it_is_saved_with_the_method_that_it_chose(tmp_path: Path, candidates: Any) -> None:
    task, base = letters(), mixed_base()
    method = AutoConfig(candidates=candidates, budget=100)
    learned = saved(tmp_path / "out", task, base, method)
    again = load_adapted(tmp_path / "out")
    assert again.fitted.selection == learned.fitted.selection
    assert again.predict(task.raws) == learned.predict(task.raws)
    assert (tmp_path / "out" / "model").exists() == ("finetune" in str(candidates))


def test_it_is_calibrated_as_the_chosen_method_is() -> None:
    task, encoder = clouds(20, apart=1.0)
    train = np.arange(40)
    both = [
        learn(encoder, task, method, train)[1]
        for method in (AutoConfig(candidates=("knn",)), KnnConfig())
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (AutoConfig(candidates=("auto",)), "cannot be one of its own"),
        (
            AutoConfig(candidates=("names", "centroids")),
            "numbers cannot.*numbers have no",
        ),
    ],
)
def test_refusals(method: AutoConfig, message: str) -> None:
    values = Task.from_values("v", "bytes", [str(i) for i in range(40)], list(range(40)))
    assert re.search(message, method.refusal(mixed_base(), values))


def test_bad_candidates() -> None:
    with pytest.raises(ConfigError, match="no method is called 'prob'; did you mean `probe`"):
        method_of("auto", ["candidates=[prob]"])
    with pytest.raises(ConfigError, match="candidates"):
        method_of("auto", ["candidates=[]"])


def test_numbers_and_tokens() -> None:
    values = Task.from_values("v", "bytes", ["a" * (i % 9 + 1) for i in range(60)],
                              [float(i % 9) for i in range(60)])  # fmt: skip
    fitted = AutoConfig().fit(Encoder(mixed_base(), "bytes"), values, np.arange(50))
    notes = {row["method"]: row["note"] for row in selection(fitted).trials}
    assert notes["centroids"].startswith("not tried: numbers have no centroids")
    assert selection(fitted).method.name in ("knn", "probe")


def test_a_method_from_outside_can_be_a_candidate() -> None:
    class Constant(KnnConfig):
        name: str = "constant-of-a-test"  # type: ignore[assignment]

    MethodConfig.choices["constant-of-a-test"] = Constant
    try:
        method = method_of("auto", ["candidates=[constant-of-a-test, probe]"])
        task, encoder = clouds(10, apart=20.0)
        fitted = method.fit(encoder, task, np.arange(30))
        assert selection(fitted).method == Constant()
    finally:
        del MethodConfig.choices["constant-of-a-test"]


def test_the_command_recommends_with_a_table(tmp_path: Path) -> None:
    save(mixed_base(), tmp_path / "base")
    task = letters()
    rows = [{"text": raw, "label": raw[0]} for raw in task.raws]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["adapt", tmp_path / "base", "--data", tmp_path / "t.jsonl", "--method", "auto"]
    words += ["--modality", "bytes", "--no-baselines", "--splits", 2]
    plain = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "out")])
    assert plain.exit_code == 0, plain.output
    assert "recommended: centroids, because" in plain.output
    for word in (
        "95 % CI",
        "parameters",
        "seconds",
        "bytes",
        "chosen",
        "not tried: the base would",
    ):
        assert word in plain.output
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    (row,) = json.loads(done.stdout)
    card = load_adapted(tmp_path / "out").card["selection"]
    assert row["selection"]["method"] == card["method"] == CentroidsConfig().tree()
    assert [each["method"] for each in card["trials"]] == list(CANDIDATES)


def test_texts_are_learned_by_what_predicts_texts() -> None:
    raws = [f"{'a' if i % 2 else 'z'}{i}" for i in range(20)]
    task = Task.from_texts("t", "bytes", raws, [f"so {raw[0]}" for raw in raws])
    fitted = AutoConfig(candidates=VECTORS).fit(Encoder(mixed_base(), "bytes"), task, np.arange(16))
    assert selection(fitted).method == KnnConfig()
    notes = {row["method"]: row["note"] for row in selection(fitted).trials}
    assert "probe predicts no text" in notes["probe"]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 30), st.integers(1, 40), st.integers(1, 3), st.integers(0, 1000))
def test_left_out_rows_are_predicted_as_by_a_fit_without_them(
    size: int, features: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, wanted = rng.normal(size=(size, features)), rng.normal(size=(size, columns))
    weights, penalty = rng.uniform(0.2, 3, size), float(rng.uniform(0.1, 10))
    part = rng.permutation(size)[: rng.integers(1, size - 1)]
    rest = np.setdiff1d(np.arange(size), part)
    again = Ridge(penalty).fit(rows[rest], wanted[rest], sample_weight=weights[rest])
    expected = again.predict(rows[part]).reshape(len(part), columns)
    actual = LeftOut(rows, wanted, weights).outputs(penalty, part)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_the_probe_predicts_held_out_records_as_a_fit_without_them_does() -> None:
    """With one representation and one penalty to choose from, and vectors of one scale."""
    task, encoder = clouds(20, apart=1.0)
    rows = encoder.given[0].astype(np.float64)
    train = np.random.default_rng(0).permutation(60)[:50]
    parts = parts_of(task, train, 0, 2)
    fitted, held = ProbeConfig().cross_fit(encoder, task, train, parts)
    alone = ProbeConfig().fit(encoder, task, train)
    np.testing.assert_array_equal(fitted.arrays()["weight"], alone.arrays()["weight"])
    scale = rows[train].std(axis=0)
    agreed = []
    for (fit, rest), outputs in zip(parts, held, strict=True):
        model = RidgeClassifierCV(alphas=np.logspace(-1, 6, 15))
        model.fit((rows / scale)[fit], task.labels[fit])
        agreed.append((model.predict((rows / scale)[rest]) == outputs.argmax(axis=1)).mean())
    assert len(parts) == 10
    assert np.mean(agreed) > 0.95


def test_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(size=40)
    without = [np.delete(values, i).mean() for i in range(40)]
    expected = values.std(ddof=1) / np.sqrt(40)
    assert deviation(np.array([values.mean(), *without])) == pytest.approx(expected)


@pytest.mark.parametrize(("each", "count"), [(2, 2), (4, 4), (20, 5)])
def test_classes_with_few_labels_have_fewer_folds(each: int, count: int) -> None:
    """Every fold has every class in proportion."""
    task, _ = clouds(each, apart=1.0)
    parts = list(folds(task, np.arange(3 * each), 0))
    assert len(parts) == count
    for fit, rest in parts:
        assert len(set(np.bincount(task.labels[rest]))) == 1
        assert set(task.labels[fit]) == {0, 1, 2}
