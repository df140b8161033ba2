"""Transfer on planted truth: what is there is found, what is not there is not claimed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from broadbase.core.errors import DataError
from broadbase.data.sources import JsonLinesConfig
from broadbase.transfer.adapt import Method, adapt
from broadbase.transfer.compare import paired_interval
from broadbase.transfer.finetune import FinetuneConfig, correct, finetune
from broadbase.transfer.task import Task, read_task
from test_model_folder import mixed_base

WORDS = {"fruit": ["apple", "pear", "plum", "fig"], "tool": ["saw", "drill", "axe", "file"]}


def task(count: int = 120, shuffled: bool = False) -> Task:
    rng = np.random.default_rng(0)
    labels = [str(name) for name in rng.choice(list(WORDS), count)]
    raws = [" ".join(rng.choice(WORDS[name], 3)) for name in labels]
    if shuffled:
        labels = [str(name) for name in rng.permutation(labels)]
    return Task.from_records("things", "bytes", raws, labels)


def test_finetuning_learns_what_is_there() -> None:
    things, base = task(), mixed_base()
    train, test = things.split(60, 60, seed=0)
    adapted = finetune(base, things, train, FinetuneConfig(steps=60, batch=16, lr=1e-2))
    assert correct(adapted, things, test).mean() > 0.9
    assert "label" not in base.model.spaces


def test_finetuning_learns_nothing_where_nothing_is() -> None:
    things, base = task(shuffled=True), mixed_base()
    train, test = things.split(60, 60, seed=0)
    adapted = finetune(base, things, train, FinetuneConfig(steps=20, batch=16))
    assert 0.25 < correct(adapted, things, test).mean() < 0.75


def test_a_probe_of_the_same_weights_gains_nothing() -> None:
    """Pretrained = random init of another seed: no interval may exclude 0 on both sides alike."""
    base = mixed_base().scratch(99)
    (row,) = adapt(base, task(), Method.probe, [40], test=60, seeds=5)
    assert len(row.pretrained) == len(row.random) == 5
    assert min(row.pretrained) > 0.8
    mean, low, high = row.gain
    assert abs(mean) < 0.05
    assert low <= mean <= high
    assert row.row()["gain_low"] == low


def test_the_interval_is_students() -> None:
    a, b = [0.9, 0.8, 0.85, 0.7], [0.5, 0.6, 0.7, 0.65]
    mean, low, high = paired_interval(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(np.subtract(a, b)))
    assert (low, high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="2 or more pairs"):
        paired_interval([1.0], [0.5])


def test_splits_are_apart_and_repeat() -> None:
    things = task()
    train, test = things.split(40, 50, seed=1)
    assert not set(train) & set(test)
    assert len(train) == 40
    assert len(test) == 50
    again, _ = things.split(40, 50, seed=1)
    other, _ = things.split(40, 50, seed=2)
    assert list(again) == list(train)
    assert list(other) != list(train)


def test_groups_stay_on_one_side() -> None:
    things = task()
    files = [str(i // 6) for i in range(len(things.raws))]
    labels = [things.classes[label] for label in things.labels]
    grouped = Task.from_records("g", "bytes", things.raws, labels, files)
    train, test = grouped.split(30, 100, seed=0)
    assert grouped.groups is not None
    assert not set(grouped.groups[train]) & set(grouped.groups[test])


def test_bad_tasks(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(DataError, match="needs at least two"):
        Task.from_records("t", "bytes", ["a", "b"], ["x", "x"])
    with pytest.raises(DataError, match="too few for 500 labels"):
        task().split(500, 10, seed=0)
    path = tmp_path / "t.jsonl"  # type: ignore[operator]
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:1 has no label"):
        read_task("t", "bytes", JsonLinesConfig(path=str(path)))
