"""Several labels for each record: read from lists, learned by every method, saved and predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.predicting import Predictor
from broadbase.adapt.target import Target
from broadbase.adapt.targets.several import SeveralTarget, separated
from broadbase.adapt.task import Task
from broadbase.core.errors import DataError
from broadbase.core.sources import Record
from support.adapting import METHODS, names, saved
from support.bases import mixed_base

WORDS = {"fruit": "apple pear", "tool": "saw drill", "unit": "gram mile"}


def things(count: int = 60) -> Task:
    rng = np.random.default_rng(0)
    raws, labels = [], []
    for _ in range(count):
        kinds = [kind for kind in WORDS if rng.random() < 0.5]
        raws.append(" ".join(rng.choice(WORDS[kind].split()) for kind in kinds) or "nothing")
        labels.append(kinds)
    return Task.from_several("things", "bytes", raws, labels)


def test_lists_are_read_as_people_write_them() -> None:
    for written in ("a;b c", "a | b c", '["a", "b c"]', "['a', 'b c', 'a']", " a ;; b c;"):
        assert separated(written) == ["a", "b c"]
    assert separated("[]") == separated(";") == []
    with pytest.raises(ValueError, match=r"labels '\[a' are a broken list; write"):
        separated("[a")
    target = SeveralTarget(labels=("a", "b", "c"))
    assert target.parse("c;a").tolist() == [1, 0, 1]
    assert target.parse("a;d") is target.parse("[a") is None


def test_labels_are_indicators_and_scored_by_mean_average_precision() -> None:
    task = Task.from_several("t", "bytes", list("wxyz"), [["b", "a"], [], ["b"], ["a"]])
    assert task.target.names == ("a", "b")
    assert task.labels.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    outputs = np.array([[0.9, 0.1], [0.1, 0.3], [0.2, 0.8], [0.05, 0.2]])
    expected = [average_precision_score(task.labels[:, k], outputs[:, k]) for k in (0, 1)]
    assert task.score(outputs, np.arange(4)) == pytest.approx(np.mean(expected))
    assert task.constant() == ("share of each label", pytest.approx(0.5))
    assert task.target.strata(task.labels).tolist() == [0, 2, 1, 0]
    with pytest.raises(DataError, match=r"has 1 labels .*at least two"):
        Task.from_several("t", "bytes", ["x"], [["a"]])


LEARNABLE = [method for method in METHODS if not method.refusal(mixed_base(), things())]


@pytest.mark.parametrize("method", LEARNABLE, ids=names)
def test_every_method_learns_saves_and_predicts_them(tmp_path: Path, method: MethodConfig) -> None:
    task = things()
    learned = saved(tmp_path / "out", task, mixed_base(), method)
    again = load_adapted(tmp_path / "out")
    rows = again.predict(task.raws)
    assert rows == learned.predict(task.raws)
    for row in rows:
        assert row["label"] == [name for name in WORDS if row[f"p({name})"] >= 0.5]
    if not method.trains_base and method.needs_labels:
        assert task.score(again.outputs(task.raws), np.arange(len(rows))) > 0.9


def test_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 2)) * [1.0, 3.0] + [-2.0, 0.5]
    labels = (rng.random(logits.shape) < expit(logits)).astype(np.int64)
    target: Target = SeveralTarget(labels=("a", "b"))
    outputs = logits * [0.01, -7.0] + [3.0, 1.0]  # in units of their own
    rows = target.rows(outputs, target.calibrate(outputs, labels))
    chances = np.array([[row["p(a)"], row["p(b)"]] for row in rows])
    assert np.abs(chances - expit(logits)).mean() < 0.02
    never = target.calibrate(outputs, np.zeros_like(labels))  # no record has a label
    assert max(row["p(a)"] for row in target.rows(outputs, never)) < 0.01


def test_a_stream_of_them_is_scored(tmp_path: Path) -> None:
    task = things()
    adapted = saved(tmp_path / "out", task, mixed_base())
    predictor = Predictor(adapted)
    labels = [";".join(name for name, there in zip(task.target.names, row, strict=True) if there)
              for row in task.labels]  # fmt: skip
    records = [Record(raw, f"r{i}", label) for i, (raw, label) in enumerate(zip(
        task.raws, [*labels[:-1], "strange"], strict=True))]  # fmt: skip
    (batch,) = predictor.batches(records)
    assert len(batch) == 60
    assert predictor.unscored == 1
    score = predictor.score()
    assert score is not None
    assert score[0] > 0.9
