"""What to label next stands for the most of what is not labelled."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from broadbase.adapt import suggest as module
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.suggest import suggest, suggest_records
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.weights.folder import save
from support.adapting import Given
from support.bases import mixed_base

NONE = np.zeros((0, 0), np.float32)


def reached(rows: np.ndarray, chosen: Any, labelled: np.ndarray = NONE) -> float:
    """The sum over rows of the cosine with the most similar chosen or labelled one, from 0."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    have = unit[list(chosen)]
    if len(labelled):
        have = np.concatenate([have, labelled / np.linalg.norm(labelled, axis=1, keepdims=True)])
    return float(np.maximum(unit @ have.T, 0).max(axis=1).sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(3, 9), given_labels=st.booleans())
def test_the_order_is_near_the_best_choice_and_each_step_is_the_best(
    seed: int, size: int, given_labels: bool
) -> None:
    """Greedy choices reach 1 - 1/e of the best gain (Nemhauser et al. 1978)."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(size, 3)).astype(np.float32)
    labelled = rng.normal(size=(2, 3)).astype(np.float32) if given_labels else NONE
    order = suggest(rows, labelled, 3).tolist()
    assert len(set(order)) == 3
    start = reached(rows, [], labelled) if given_labels else 0.0
    steps = [reached(rows, order[:n], labelled) for n in (1, 2, 3)]
    for n, value in enumerate(steps):
        others = [reached(rows, [*order[:n], i], labelled) for i in range(size)]
        assert value == pytest.approx(max(others), abs=1e-4)
    best = max(reached(rows, c, labelled) for c in itertools.combinations(range(size), 3))
    assert steps[-1] - start >= (1 - 1 / np.e) * (best - start) - 1e-4
    assert suggest(rows, labelled, 1).tolist() == order[:1]


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Four clouds of 40, 30, 20 and 10, and three rows far from all; the cloud of each."""
    rng = np.random.default_rng(0)
    sizes = (40, 30, 20, 10)
    rows = [np.eye(8)[k] + 0.1 * rng.normal(size=(n, 8)) for k, n in enumerate(sizes)]
    far = [-np.eye(8)[5:] * 3]
    return np.concatenate(rows + far), np.repeat([0, 1, 2, 3, 4], [*sizes, 3])


def test_large_clouds_come_first_and_each_once() -> None:
    rows, cloud = clusters()
    assert cloud[suggest(rows.astype(np.float32), NONE, 4)].tolist() == [0, 1, 2, 3]


def test_what_is_labelled_is_not_suggested_again() -> None:
    rows, cloud = clusters()
    labelled = rows[np.isin(cloud, (0, 2))][::10]
    rest = rows[cloud < 4]
    order = suggest(rest.astype(np.float32), labelled.astype(np.float32), 2)
    assert cloud[order].tolist() == [1, 3]


def test_fewer_than_wanted_and_more_than_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clusters()
    rows = rows.astype(np.float32)
    assert sorted(suggest(rows[:5], NONE, 20).tolist()) == [0, 1, 2, 3, 4]
    raws = [str(i) for i in range(len(rows))]
    encoder = Given(Task.from_records("t", "bytes", raws, ["a", "b"] * 51 + ["a"]), rows)
    pool, nothing = Inputs(raws), Inputs([])
    monkeypatch.setattr(module, "CANDIDATES", 30)
    order = suggest_records(encoder, pool, nothing, 50)
    assert len(set(order.tolist())) == 30
    assert set(order.tolist()) != set(range(30))
    again = suggest_records(encoder, pool, nothing, 50)
    np.testing.assert_array_equal(order, again)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suggest")
    save(mixed_base(), path / "base")
    texts = ["aaaa", "aaab", "aaaa b", "zzzz", "zzzy", "9999"]
    (path / "pool.csv").write_text("\n".join(["text", *texts, "aaaa"]) + "\n")
    labels = ["kind one", "", "", "", "two", ""]
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (path / "some.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["suggest", *map(str, words), "--modality", "bytes"])


def test_a_pool_alone_is_enough(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    done = run(desk / "base", "--unlabelled", desk / "pool.csv", "--number", 3, "--out", out)
    assert done.exit_code == 0, done.output
    assert "6 records without a label, 0 with one; 1 are copies" in done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["origin", "text", "label"]
    assert [row["label"] for row in rows] == [""] * 3
    assert len({row["text"] for row in rows}) == 3


def test_rows_without_a_label_are_suggested_and_those_with_one_are_not(desk: Path) -> None:
    done = run(desk / "base", "--data", desk / "some.csv", "--unlabelled", desk / "pool.csv",
               "--json", "--number", 9)  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert sorted(row["text"] for row in rows) == ["9999", "aaaa b", "aaab", "zzzz"]
    assert {Path(row["origin"].rpartition(":")[0]).name for row in rows} == {"some.csv"}


def test_nothing_to_choose_from_is_refused(desk: Path, tmp_path: Path) -> None:
    full = tmp_path / "full.csv"
    full.write_text("text,label\naa,x\nbb,y\n")
    words: tuple[tuple[list[Any], type[BroadbaseError], str], ...] = (
        ([], ConfigError, "give the records to choose from"),
        (["--data", full], DataError, "every record has a label"),
        (["--unlabelled", full, "--out", full], ConfigError, "part of the data"),
        (["--unlabelled", full, "--out", "x.xls"], ConfigError, "endings"),
    )
    for each, error, message in words:
        done = run(desk / "base", *each)
        assert isinstance(done.exception, error), (each, done.output)
        assert message in str(done.exception)
