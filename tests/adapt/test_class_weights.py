"""Classes that count more where a method learns: what it changes, and what it must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from broadbase.adapt.compare import must_suit
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.target import ClassWeights
from broadbase.adapt.targets.classes import ClassesTarget
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.commands.work.labelled_data import weights_of
from broadbase.core.errors import ConfigError
from broadbase.weights.folder import save
from support.adapting import Given
from support.bases import mixed_base

RARE = 0.08  # of the records


def weighted(task: Task, weights: ClassWeights) -> Task:
    return replace(task, target=task.target.with_weights(weights))


def clouds(count: int, seed: int = 0) -> tuple[Task, Given]:
    """Two clouds that overlap, one of few records; the true probabilities are known."""
    rng = np.random.default_rng(seed)
    rare = rng.random(count) < RARE
    rows = rng.normal(size=(count, 4)) + 1.2 * rare[:, None] * np.eye(4)[0]
    raws = [str(i) for i in range(count)]
    task = Task.from_records("clouds", "bytes", raws, ["rare" if r else "common" for r in rare])
    return task, Given(task, rows.astype(np.float32))


@pytest.mark.parametrize("method", [ProbeConfig(), KnnConfig()], ids=lambda m: m.name)
def test_a_rare_class_is_predicted_more_and_probabilities_stay_those_of_the_records(
    method: MethodConfig,
) -> None:
    task, encoder = clouds(3000)
    train, test = np.arange(1500), np.arange(1500, 3000)
    rare = task.target.names.index("rare")
    truth = task.labels[test]
    scores, chances = {}, {}
    for name, each in {"plain": task, "balanced": weighted(task, "balanced")}.items():
        fitted, calibration = learn(encoder, each, method, train)
        rows = each.target.rows(fitted.outputs(each.inputs(test)), calibration)
        predicted = [each.target.parse(row["label"]) for row in rows]
        scores[name] = f1_score(truth, predicted, average="macro")
        chances[name] = np.array([row["p(rare)"] for row in rows])
        if name == "balanced":
            assert np.mean(np.array(predicted)[truth == rare] == rare) > 0.6
            assert all(row["probability"] == row[f"p({row['label']})"] for row in rows)
    assert scores["balanced"] > scores["plain"] + 0.05
    each = chances["balanced"]
    assert abs(each.mean() - (truth == rare).mean()) < 0.03
    if method.name == "knn":  # has few values of probability here: most records have no rare vote
        return
    sure = each > np.quantile(each, 0.9)
    assert abs(each[sure].mean() - (truth[sure] == rare).mean()) < 0.1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    counts=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    penalty=st.sampled_from([0.1, 10.0, 1000.0]),
)
def test_a_weight_is_as_many_copies_of_the_records(
    seed: int, counts: list[int], penalty: float
) -> None:
    """Of ridge regression with one penalty; compared with scikit-learn's plain one on copies."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(3, size=17)])
    rows = rng.normal(size=(20, 6))
    target = ClassesTarget(classes=("a", "b", "c")).with_weights(
        {name: float(n) for name, n in zip("abc", counts, strict=True)}
    )
    ours = target.ridge().set_params(alphas=[penalty]).fit(rows, labels)
    copies = np.repeat(np.arange(20), np.array(counts)[labels])
    plain = Ridge(alpha=penalty).fit(rows[copies], 2 * np.eye(3)[labels[copies]] - 1)
    np.testing.assert_allclose(target.outputs(ours, rows), plain.predict(rows), atol=1e-8)
    np.testing.assert_array_equal(target.weights(labels), np.array(counts)[labels])


def test_balanced_classes_count_alike_together() -> None:
    target = ClassesTarget(classes=("a", "b", "c")).with_weights("balanced")
    weights = target.weights(np.array([0] * 6 + [2] * 2))
    assert weights[:6].sum() == pytest.approx(weights[6:].sum())
    assert weights.mean() == pytest.approx(1)


def test_equal_weights_change_nothing() -> None:
    task, encoder = clouds(200)
    same = weighted(task, {"rare": 1.0})
    train = np.arange(200)
    for method in (ProbeConfig(), KnnConfig()):
        (plain, _), (equal, _) = (learn(encoder, each, method, train) for each in (task, same))
        inputs = task.inputs(train)
        np.testing.assert_allclose(plain.outputs(inputs), equal.outputs(inputs), atol=1e-9)


def test_a_neighbour_votes_by_the_weight_of_its_class() -> None:
    target = ClassesTarget(classes=("a", "b")).with_weights({"b": 3.0})
    rows, labels = np.ones((4, 2)), np.array([0, 0, 0, 1])
    outputs = target.outputs(target.neighbours().fit(rows, labels), rows[:1])
    np.testing.assert_allclose(np.exp(outputs), [[0.5, 0.5]])


def test_fine_tuning_weighs_the_loss() -> None:
    """A batch of equal records of two classes learns their weighted shares."""
    task = Task.from_records("t", "bytes", ["x"] * 20, ["a"] * 10 + ["b"] * 10)
    method = FinetuneConfig(steps=60, batch=20, lr=3e-3, weight_decay=0)
    encoder = Encoder(mixed_base(), "bytes")
    fitted = method.fit(encoder, weighted(task, {"b": 4.0}), np.arange(20))
    (logits,) = fitted.outputs(task.inputs(np.array([0])))
    assert logits[1] - logits[0] == pytest.approx(np.log(4), abs=0.15)


@pytest.mark.parametrize("method", [CentroidsConfig(), NamesConfig()], ids=lambda m: m.name)
def test_methods_that_cannot_weigh_refuse(method: MethodConfig) -> None:
    task = Task.from_records("t", "bytes", ["x", "y", "z"] * 10, ["a", "b", "a"] * 10)
    must_suit(mixed_base(), task, method, 10)
    with pytest.raises(ConfigError, match=f"{method.name} cannot weigh classes"):
        must_suit(mixed_base(), weighted(task, "balanced"), method, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "give CLASS=WEIGHT"),
        (["a=x"], "give CLASS=WEIGHT"),
        (["balanced", "a=2"], "`--class-weights balanced`: give CLASS=WEIGHT"),
        (["a=-1"], "--class-weights a=-1: give a number above 0"),
        (["a=nan"], "--class-weights a=nan: give a number above 0"),
        (["appel=2"], "no such class.*apple"),
    ],
)
def test_bad_weights_are_named(words: list[str], message: str) -> None:
    target = ClassesTarget(classes=("a", "apple", "b=c"))
    with pytest.raises(ConfigError, match=message):
        target.with_weights(weights_of(words))


def test_weights_in_words() -> None:
    assert weights_of(["b=c=2", " a =0.5"]) == {"b=c": 2.0, "a": 0.5}
    assert weights_of(["balanced"]) == "balanced"


def test_numbers_have_no_weights() -> None:
    values = Task.from_values("v", "bytes", ["x", "y"], [1.0, 2.0])
    with pytest.raises(ConfigError, match="numbers have no classes to weigh"):
        weighted(values, "balanced")


def test_the_command_weighs_saves_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [("aaab", "common") if x < 0.8 else ("aabb", "rare") for x in rng.random(120)]
    noise = ["".join(rng.choice(list("ab"), 4)) for _ in rows]
    data = tmp_path / "t.csv"
    lines = [f"{text}{more},{label}" for (text, label), more in zip(rows, noise, strict=True)]
    data.write_text("\n".join(["text,label", *lines]) + "\n")
    save(mixed_base(), tmp_path / "base")

    def run(*words: Any) -> Any:
        return CliRunner().invoke(app, [*map(str, words)])

    made = run(
        "adapt", tmp_path / "base", "--data", data, "--modality", "bytes", "--splits", 2,
        "--class-weights", "balanced", "--macro", "--out", tmp_path / "m",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "weights: common 0." in made.stderr
    predicted = run("predict", tmp_path / "m", "--data", data)
    assert predicted.exit_code == 0, predicted.output
    assert "p(rare)" in predicted.stdout
