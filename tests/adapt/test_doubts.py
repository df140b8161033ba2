"""Labels that were planted wrong are the most doubtful, for every kind of labels."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from broadbase.adapt.confident import counted_wrong
from broadbase.adapt.doubts import doubts, share_of
from broadbase.adapt.methods.auto import AutoConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.weights.folder import save
from support.adapting import Given, saved
from support.bases import mixed_base

SIZE, BAD = 300, 15


def planted(kind: str) -> tuple[Task, Given, np.ndarray]:
    """A task that vectors explain well, with some labels that are wrong, and which."""
    rng = np.random.default_rng(0)
    rows = 0.3 * rng.normal(size=(SIZE, 6))
    raws = [str(i) for i in range(SIZE)]
    bad = np.isin(np.arange(SIZE), rng.permutation(SIZE)[:BAD])
    if kind == "classes":
        classes = rng.integers(3, size=SIZE)
        rows[:, :3] += np.eye(3)[classes]
        classes[bad] = (classes[bad] + rng.integers(1, 3, BAD)) % 3
        task = Task.from_records(kind, "bytes", raws, [f"c{k}" for k in classes])
    elif kind == "numbers":
        values = rows[:, 0] + 0.03 * rng.normal(size=SIZE)
        values[bad] += 2
        task = Task.from_values(kind, "bytes", raws, values.tolist())
    else:
        there = rng.random((SIZE, 3)) < 0.5
        rows[:, :3] += 2 * there - 1
        there[bad, 1] ^= True
        names = [[name for name, x in zip("abc", row, strict=True) if x] for row in there]
        task = Task.from_several(kind, "bytes", raws, names)
    return task, Given(task, rows.astype(np.float32)), bad


@pytest.mark.parametrize("method", [ProbeConfig(), KnnConfig()], ids=lambda m: m.name)
@pytest.mark.parametrize("kind", ["classes", "numbers", "several"])
def test_planted_errors_come_first(kind: str, method: Any) -> None:
    task, encoder, bad = planted(kind)
    result = doubts(encoder, task, method)
    assert sorted(result.records) == list(range(SIZE))
    confidence = [each.confidence for each in result.opinions]
    assert confidence == sorted(confidence)
    assert all(0 <= each <= 1 for each in confidence)
    assert roc_auc_score(bad[result.records], np.negative(confidence)) > 0.93
    first = result.opinions[0]
    assert first.suggested != first.label
    if kind == "numbers":
        assert result.share is None
        assert list(result.wrong) == []
    elif method.name == "probe":
        counted = np.array(result.wrong)
        assert counted[bad[result.records]].mean() > 0.7
        assert result.share is not None
        assert result.share.low is not None
        assert result.share.high is not None
        assert result.share.low < BAD / SIZE < result.share.high


def test_a_suggestion_is_the_label_that_was_there() -> None:
    task, encoder, bad = planted("classes")
    rows = encoder.given[0]
    result = doubts(encoder, task, ProbeConfig())
    right = [
        each.suggested == f"c{rows[i, :3].argmax()}"
        for i, each in zip(result.records, result.opinions, strict=True)
        if bad[i]
    ]
    assert np.mean(right) > 0.8


def test_a_copy_does_not_vouch_for_itself() -> None:
    """Copies of a record, all with one wrong label, are in one group and so judged by others."""
    task, encoder, _ = planted("classes")
    rows = np.concatenate([encoder.given[0], np.repeat(encoder.given[0][:1], 3, axis=0)])
    wrong = (task.labels[0] + 1) % 3
    labels = np.concatenate([task.labels, [wrong] * 3])
    labels[0] = wrong
    groups = np.append(np.arange(SIZE), [0] * 3)
    raws = [str(i) for i in range(SIZE + 3)]
    task = replace(task, raws=raws, labels=labels, groups=groups)
    result = doubts(Given(task, rows), task, KnnConfig())
    assert {0, SIZE, SIZE + 1, SIZE + 2} <= set(result.records[: BAD + 10].tolist())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_the_count_is_that_of_the_definition(seed: int, classes: int) -> None:
    """Counted record by record, as the paper's equation 1 says."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(classes), size=30)
    labels = rng.integers(classes, size=30)
    expected = []
    for label, row in zip(labels, chances, strict=True):
        may = [
            k for k in range(classes)
            if (labels == k).any() and row[k] >= chances[labels == k, k].mean()
        ]  # fmt: skip
        best = max(may, key=lambda k: row[k], default=label)
        expected.append(best != label and row.argmax() != label)
    assert counted_wrong(labels, chances).tolist() == expected


def test_the_interval_of_a_share_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = [
        share.low <= 0.05 <= share.high
        for share in (share_of((rng.random(200) < 0.05).tolist(), False) for _ in range(400))
        if share.low is not None and share.high is not None
    ]
    assert len(covered) == 400
    assert 0.92 < np.mean(covered) < 0.99
    assert share_of([True, False], per_token=True) == (0.5, None, None)


def test_few_labels_are_refused() -> None:
    task = Task.from_records("few", "bytes", list("abcdef"), ["x", "y"] * 3)
    with pytest.raises(DataError, match="6 labels, too few"):
        doubts(Given(task, np.zeros((6, 2), np.float32)), task, ProbeConfig())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapted one, and a table of which two labels are wrong."""
    path = tmp_path_factory.mktemp("doubts")
    rng = np.random.default_rng(0)
    kinds = {"fruit": ["apple", "pear", "plum"], "tool": ["saw", "drill", "axe"]}
    labels = [name for name in kinds for _ in range(30)]
    texts = [" ".join(rng.choice(kinds[name], 3)) + f" {i}" for i, name in enumerate(labels)]
    task = Task.from_records("kinds", "bytes", texts, labels)
    saved(path / "adapted", task, mixed_base(), read={"field": "words", "label": "kind"})
    save(mixed_base(), path / "base")
    labels[3], labels[40] = "tool", "fruit"
    for name, header in (("adapted.csv", "words,kind"), ("plain.csv", "text,label")):
        lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
        (path / name).write_text("\n".join([header, *lines]) + "\n")
    return path


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["doubts", *map(str, words)])


def test_the_command_lists_and_writes_them(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "doubts.csv"
    done = run(desk / "base", "--data", desk / "plain.csv", "--modality", "bytes", "--out", out)
    assert done.exit_code == 0, done.output
    assert "labels are counted as wrong" in done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert {row["origin"].rpartition(":")[2] for row in rows[:2]} == {"5", "42"}
    assert {(row["label"], row["suggested"], row["wrong"]) for row in rows[:2]} == {
        ("tool", "fruit", "yes"), ("fruit", "tool", "yes")
    }  # fmt: skip
    assert "plain.csv:5" in done.stdout


def test_an_adapted_folder_brings_its_method_and_columns(desk: Path) -> None:
    done = run(desk / "adapted", "--data", desk / "adapted.csv", "--modality", "bytes", "--json",
               "--number", 2)  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["label"] != row["suggested"] for row in result["doubts"]] == [True, True]
    assert result["labels"] == 60
    assert 0 < result["wrong"]["low"] < result["wrong"]["high"] < 1


def test_what_cannot_be_judged_is_refused(desk: Path, tmp_path: Path) -> None:
    task = Task.from_records("t", "bytes", list("abcdefghij"), ["x", "y"] * 5)
    tuned = FinetuneConfig(steps=1, batch=4)
    saved(tmp_path / "tuned", task, mixed_base(), tuned)
    saved(tmp_path / "chosen", task, mixed_base(), AutoConfig(candidates=(tuned,), budget=1e6))
    plain = desk / "plain.csv"
    for words, error, message in (
        ([tmp_path / "tuned", "--data", plain], ConfigError, "was trained on labelled records"),
        ([tmp_path / "chosen", "--data", plain], ConfigError, "labelled records (finetune)"),
        ([desk / "base", "--data", plain, "--out", "x.txt"], ConfigError, "endings"),
        ([desk / "base", "--data", plain, "--out", plain], ConfigError, "part of the data"),
        ([desk / "base", "--data", plain, "--method", "prob"], ConfigError, "prob"),
        ([desk / "base", "--data", plain, "--label", "kind"], BroadbaseError, "kind"),
    ):
        done = run(*words)
        assert isinstance(done.exception, error), (words, done.output)
        assert message in str(done.exception)
