"""The table of few labels: which rows there are, what they score, and what has no table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from broadbase.adapt.label_table import LabelRow, few, label_table
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.weights.folder import save
from support.bases import protein_base, text_base
from support.runs import broadbase

WORDS = {"sea": "wave salt ship", "wood": "tree moss fern", "town": "road shop lamp"}


def planted(each: int) -> Task:
    raws = [f"{words} {i}" for i in range(each) for words in WORDS.values()]
    return Task.from_records("planted", "text", raws, list(WORDS) * each)


@pytest.fixture(scope="module")
def rows() -> list[LabelRow]:
    return [*label_table(text_base(), planted(12))]


def test_there_is_a_row_for_each_number_of_labels_below_all(rows: list[LabelRow]) -> None:
    assert [(row.labels, row.train) for row in rows] == [(0, 0), (2, 6), (5, 15), (None, 18)]
    assert [row.method for row in rows] == ["names", "centroids", "centroids", "probe"]
    assert {row.test for row in rows} == {18}


def test_planted_words_are_learned_by_features_and_base(rows: list[LabelRow]) -> None:
    assert not rows[0].features
    assert all(np.mean(row.feature_scores) > 0.95 for row in rows[1:])
    assert np.mean(rows[-1].scores) > 0.8


def test_a_row_has_the_intervals_of_its_splits(rows: list[LabelRow]) -> None:
    row = rows[1]
    said = row.as_json()
    interval = ttest_1samp(row.scores, 0).confidence_interval(0.95)
    assert said["score"] == pytest.approx([np.mean(row.scores), interval.low, interval.high])
    gaps = np.subtract(row.scores, row.feature_scores)
    assert said["gap"][0] == pytest.approx(gaps.mean())


def test_numbers_are_counted_in_all() -> None:
    raws = [f"{'salt ' * (i % 7)}{i}" for i in range(60)]
    task = Task.from_values("n", "text", raws, [float(i % 7) for i in range(60)])
    rows = [*label_table(text_base(), task)]
    assert [(row.labels, row.train) for row in rows] == [(20, 20), (None, 30)]
    assert {row.metric for row in rows} == {"R2"}


def test_a_base_that_reads_no_prose_has_no_row_without_labels() -> None:
    raws = ["ACDE" * (1 + i % 3) + "KLM"[i % 2 :] for i in range(24)]
    task = Task.from_records("p", "protein", raws, ["ab"[i % 2] for i in range(24)])
    assert next(iter(label_table(protein_base(), task))).labels != 0


def test_few_takes_of_each_class() -> None:
    task = planted(10)
    pool = np.arange(30)
    assert list(np.bincount(task.labels[few(task, pool, 4)])) == [4, 4, 4]
    assert len(few(task, pool, None)) == 30


def test_what_has_no_table_says_so() -> None:
    texts = Task.from_texts("t", "text", ["a", "b"], ["one two", "three"])
    with pytest.raises(ConfigError, match="generate"):
        next(label_table(text_base(), texts))
    alike = Task.from_records("same", "text", ["a"] * 8, ["x", "y"] * 4)
    with pytest.raises(DataError, match="give more records"):
        next(label_table(text_base(), alike))


def test_the_command_prints_a_line_for_each_row_before_the_result(tmp_path: Path) -> None:
    task, table = planted(8), tmp_path / "planted.csv"
    with table.open("w", newline="") as file:
        names = task.target.names
        pairs = ((raw, names[int(i)]) for raw, i in zip(task.raws, task.labels, strict=True))
        csv.writer(file).writerows([("text", "label"), *pairs])
    save(text_base(), tmp_path / "base")
    words = ("adapt", tmp_path / "base", "--data", table, "--few-labels", "--no-baselines")
    lines = [json.loads(line) for line in broadbase(*words, "--json").stdout.splitlines()]
    assert [line["few_labels"]["labels"] for line in lines[:-1]] == [0, 2, None]
    assert lines[-1][0]["task"] == "planted"
    printed = broadbase(*words).stdout
    assert "2 of each class" in printed
    assert "all (12)" in printed
