"""Given splits, groups and times: what is tested on, leaks, and intervals over its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.compare_test import compare_test
from broadbase.adapt.given import newest_of
from broadbase.adapt.kinds import CLASSES, NUMBERS, SEVERAL, guess
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.sources import Record
from broadbase.data.detect import labelled
from broadbase.weights.folder import save
from support.bases import mixed_base

FRUIT, TOOL = ["apple", "pear", "plum", "fig"], ["saw", "drill", "axe", "file"]


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts that are all different, with the kind of thing that they name."""
    rng = np.random.default_rng(seed)
    kinds = [(FRUIT, "fruit"), (TOOL, "tool")]
    chosen = [kinds[i] for i in rng.integers(2, size=count)]
    return [
        {
            "text": f"{' '.join(rng.choice(things, 3))} {seed}{i}",
            "label": kind,
            "at": i,
            "who": i % 9,
        }
        for i, (things, kind) in enumerate(chosen)
    ]


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "base"
    save(mixed_base(), path)
    return path


def adapt(base: Path, *words: Any) -> Any:
    return CliRunner().invoke(app, ["adapt", str(base), "--method", "knn", *map(str, words)])


def result(base: Path, *words: Any) -> dict[str, Any]:
    done = adapt(base, *words, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    return row  # type: ignore[no-any-return]


def test_the_test_file_alone_is_scored_and_a_leak_is_said(base: Path, tmp_path: Path) -> None:
    train, test = rows(40, 1), rows(30, 2)
    leaked = {**test[3], "text": test[3]["text"].upper() + " "}  # but for case and spaces
    files = [table(tmp_path / "train.jsonl", [*train, leaked]),
             table(tmp_path / "more.jsonl", rows(20, 3)),
             table(tmp_path / "test.jsonl", test)]  # fmt: skip
    words = [word for pair in zip(("--train", "--validation", "--test"), files, strict=True)
             for word in pair]  # fmt: skip
    row = result(base, *words, "--out", tmp_path / "out")
    assert (row["train_size"], row["test_size"], row["splits"]) == (60, 30, 1)
    assert any("leak: 1 of 61 records to train on equal one of the test" in n for n in row["notes"])
    low, high = row["interval"]
    assert low < row["scores"][0] < high or low <= row["scores"][0] == 1.0
    assert all(each["ci_low"] is not None for each in row["comparisons"])
    read = load_adapted(tmp_path / "out")
    assert len(read.fitted.arrays()["vectors"]) == 60  # none of the test


def test_of_a_planted_leak_nothing_is_gained() -> None:
    """Labels are noise: with the test's records among the others, neighbours would know them."""
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice(list("abcdef"), 8)) for _ in range(120)]
    labels = [str(x) for x in rng.choice(["x", "y"], 120)]
    task = Task.from_records("noise", "bytes", [*raws, *raws[60:]], [*labels, *labels[60:]])
    from_data = read_task("noise", "bytes", Rows.of(task, 0, 120), Rows.of(task, 120, 180))
    assert len(from_data.train) == 60
    score = compare_test(mixed_base(), from_data, KnnConfig(), random_init=False).scores[0]
    assert score < 0.75


class Rows:
    """Records of a task as a source."""

    def __init__(self, records: list[Record]) -> None:
        self.items = records

    @classmethod
    def of(cls, task: Task, first: int, last: int) -> Any:
        names = task.target.names
        return cls([Record(task.raws[i], f"here:{i}", names[int(task.labels[i])])
                    for i in range(first, last)])  # fmt: skip

    def records(self) -> list[Record]:
        return self.items


def test_the_newest_are_tested_on(base: Path, tmp_path: Path) -> None:
    row = result(base, "--data", table(tmp_path / "t.jsonl", rows(50, 4)), "--time", "at")
    assert (row["train_size"], row["test_size"]) == (40, 10)


def test_times_are_numbers_or_dates() -> None:
    def records(*times: str) -> list[Record]:
        return [Record("x", f"here:{i}", key=time) for i, time in enumerate(times)]

    assert newest_of(records("10", "9", "2"), 1).tolist() == [True, False, False]
    dates = records("2026-01-31", "2025-12-01T10:00", "2026-02-01")
    assert newest_of(dates, 2).tolist() == [True, False, True]
    assert newest_of(records("1", "2", "2", "3"), 2).tolist() == [False, False, False, True]
    with pytest.raises(DataError, match="have one time"):
        newest_of(records("1", "2", "2", "2"), 2)
    with pytest.raises(DataError, match="here:1: time 'soon' is no number and no date; write"):
        newest_of(records("2026-01-31", "soon"), 1)


def test_groups_stay_on_one_side(base: Path, tmp_path: Path) -> None:
    source = labelled(str(table(tmp_path / "t.jsonl", rows(90, 5))), "text", "label",
                      {"group": "who"})  # fmt: skip
    task = read_task("t", "bytes", source)
    train, test = task.split(40, 20, 0)
    assert task.groups is not None
    assert not set(task.groups[train]) & set(task.groups[test])
    row = result(base, "--data", tmp_path / "t.jsonl", "--group", "who", "--no-baselines")
    assert row["train_size"] >= 50


def test_a_pool_of_unlabelled_records_is_read(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = []

    def seen(*words: Any, **_: Any) -> Any:
        pools.append(words[1].unlabelled)
        raise DataError("enough")

    monkeypatch.setattr("broadbase.commands.work.adapt.compare", seen)
    pool = table(tmp_path / "pool.jsonl", [{"text": "new"}, {"text": 7}, {"text": "words"}])
    data = table(tmp_path / "t.jsonl", rows(30, 6))
    done = adapt(base, "--data", data, "--unlabelled", pool, "--method", "centroids")
    assert str(done.exception) == "enough"
    assert list(pools[0]) == ["new", "words"]
    assert f"2 unlabelled records in {pool}\n" in done.stderr
    assert f"1 of the records in {pool} cannot be read (first: {pool}:2" in done.stderr


def test_rows_without_a_label_join_the_pool_but_not_those_of_the_test(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Task] = []

    def stop(_: Any, task: Task, *__: Any, **___: Any) -> Any:
        seen.append(task)
        raise DataError("enough")

    for name in ("compare", "compare_test"):
        monkeypatch.setattr(f"broadbase.commands.work.adapt.{name}", stop)
    bare = [{"text": f"no label {i}"} for i in range(3)]
    train = table(tmp_path / "train.jsonl", [*rows(30, 6), *bare[:2]])
    test = table(tmp_path / "test.jsonl", [*rows(20, 7), bare[2]])
    pool = table(tmp_path / "pool.jsonl", [{"text": "new"}])
    splits = ["--train", train, "--test", test]
    adapt(base, *splits, "--unlabelled", pool, "--method", "continue")
    adapt(base, *splits, "--method", "probe")
    adapt(base, "--data", train, "--method", "continue")
    assert [list(task.unlabelled) for task in seen] == [
        ["no label 0", "no label 1", "new"], [], ["no label 0", "no label 1"],
    ]  # fmt: skip
    (joined, left), others = (
        [note for note in task.notes if "no label" in note] for task in seen[:2]
    )
    assert joined.startswith("2 of 53 records have no label and join the unlabelled ones")
    assert left.startswith("1 of 53 records have no label and are left out")
    assert [note.split(" (")[0] for note in others] == [
        "3 of 53 records have no label and are left out"
    ]


def test_a_pool_is_refused_by_a_method_that_does_not_learn_from_it(tmp_path: Path) -> None:
    """No base and no data are there: nothing was read."""
    done = adapt(tmp_path / "none", "--data", "no.csv", "--unlabelled", "pool.csv")
    assert isinstance(done.exception, ConfigError)
    assert "knn learns from labelled records alone" in str(done.exception)


def test_the_kind_of_labels_is_guessed() -> None:
    for kind, labels in (
        (CLASSES, ["a", "b"]), (CLASSES, ["1", "2", "3.0"] * 9), (CLASSES, ["a|b", "c|d"]),
        (CLASSES, ["1", "2", "x"]), (NUMBERS, ["1.5", "2", "nan"]), (CLASSES, ["nan"]),
        (NUMBERS, [str(i) for i in range(40)]), (SEVERAL, ["a;b", "b", "a"]),
        (SEVERAL, ['["a", "b"]', "[]", '["b"]', '["c", "a"]']), (CLASSES, ["[x", "y"]),
    ):  # fmt: skip
        assert guess(labels)[0] is kind, labels


def test_lists_of_json_lines_are_several_labels(base: Path, tmp_path: Path) -> None:
    data = [{**row, "label": [row["label"], "odd"] if i % 2 else [row["label"]]}
            for i, row in enumerate(rows(60, 7))]  # fmt: skip
    row = result(base, "--data", table(tmp_path / "t.jsonl", data), "--splits", 2)
    assert row["metric"] == "mean average precision"
    assert row["class_counts"]["odd"] == 30
    assert "labels are read as several: 30 of 60 are lists of 3 names" in row["notes"][0]
    forced = result(base, "--data", tmp_path / "t.jsonl", "--splits", 2, "--kind", "classes")
    assert forced["metric"] == "accuracy"


def test_options_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "t.jsonl", rows(30, 8))
    for words, said in (
        ([], "give the labelled records with --data, or with --train and --test"),
        (["--data", data, "--train", data], "give the labelled records with --data, or"),
        (["--train", data], "need --test too"),
        (["--data", data, "--test", data], "need --train too"),
        (["--data", data, "--validation", data], "--validation is for given splits"),
        (["--data", data, "--group", "who", "--time", "at"], "different ways to split; give one"),
        (["--train", data, "--test", data, "--train-size", 9], "for random splits, not --test"),
        (["--train", data, "--test", data], "has no record to train on"),
        (
            [
                "--train",
                table(tmp_path / "one.jsonl", [{**row, "label": "tool"} for row in rows(9, 9)]),
                "--test",
                data,
            ],
            "all 9 labels to train on are alike: classes: tool 9",
        ),
        (["--data", data, "--group", "whom"], "no column `whom`; did you mean `who`?"),
        (["--data", data, "--kind", "number"], "no such kind; did you mean `numbers`?"),
        (["--data", data, "--kind", "numbers", "--macro"], "--macro is for classes, not --kind"),
        (["--data", data, "--regression", "--per-token"], "different kinds of labels; give one"),
    ):
        error = adapt(base, *words).exception
        assert isinstance(error, BroadbaseError), error
        assert said in str(error), str(error)
