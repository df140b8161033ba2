"""`predict` writes a row for each record of new data, in their order, and says what is odd."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from broadbase.adapt import predicting
from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.predicting import Predictor
from broadbase.adapt.task import Task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError
from broadbase.core.sources import Record
from support.adapting import saved
from support.bases import mixed_base, protein_base

FRUIT, TOOL = ["apple", "pear", "plum", "fig"], ["saw", "drill", "axe", "file"]


def words(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts, with the kind of thing that their words name."""
    rng = np.random.default_rng(seed)
    kinds = [("fruit", FRUIT), ("tool", TOOL)]
    chosen = [kinds[i] for i in rng.integers(2, size=count)]
    return [(" ".join(rng.choice(things, 3)), kind) for kind, things in chosen]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapted") / "kinds"
    texts, kinds = zip(*words(80), strict=True)
    task = Task.from_records("kinds", "bytes", list(texts), list(kinds))
    read = {"data": "x.csv", "field": "text", "label": "label"}
    saved(path, task, mixed_base(), read=read, result={"scores": [0.75, 0.85]})
    return path


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a CSV, JSON lines or Parquet file."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def predict(*words: Any) -> Any:
    result = CliRunner().invoke(app, ["predict", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result


def refused(*words: Any) -> BroadbaseError:
    result = CliRunner().invoke(app, ["predict", *map(str, words)])
    assert isinstance(result.exception, BroadbaseError), result.output
    return result.exception


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_are_those_of_the_library_in_the_order_of_the_data(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    texts = [text for text, _ in words(7, seed=1)]
    new = table(tmp_path / f"new.{ending}", [{"text": text, "id": f"k{i}"} for i, text in
                                             enumerate(texts)])  # fmt: skip
    out = tmp_path / "deep" / f"out.{ending}"
    result = predict(folder, "--data", new, "--out", out, "--key", "id")
    assert "7 records predicted" in result.stderr
    rows, expected = rows_of(out), load_adapted(folder).predict(texts)
    assert list(rows[0]) == [
        "origin",
        "key",
        "label",
        "probability",
        "p(fruit)",
        "p(tool)",
        "error",
    ]
    assert [row["key"] for row in rows] == [f"k{i}" for i in range(7)]
    assert all(row["origin"].startswith(str(new)) for row in rows)
    assert len({row["origin"] for row in rows}) == 7
    for row, each in zip(rows, expected, strict=True):
        assert row["label"] == each["label"]
        assert [float(row[name]) for name in ("probability", "p(tool)")] == [
            each["probability"], each["p(tool)"]
        ]  # fmt: skip


def test_csv_goes_to_stdout_and_json_where_requested(folder: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.csv", [{"text": "a saw"}, {"text": 'a, "fig"\nand a plum'}])
    lines = predict(folder, "--data", new).stdout
    assert [row["origin"] for row in csv.DictReader(lines.splitlines())] == [
        f"{new}:2", f"{new}:3"
    ]  # fmt: skip
    objects = predict(folder, "--data", new, "--json").stdout.splitlines()
    assert json.loads(objects[1])["error"] is None


def test_unreadable_records_have_the_reason_and_long_ones_are_counted(
    folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": "a saw"}, {"text": ""}, {"text": 7}, {"text": "fig " * 2000}]
    new, out = table(tmp_path / "new.jsonl", rows), tmp_path / "out.csv"
    said = predict(folder, "--data", new, "--out", out).stderr
    written = rows_of(out)
    assert [bool(row["label"]) for row in written] == [True, False, False, True]
    assert "empty" in written[1]["error"]
    assert "expected a text" in written[2]["error"]
    assert "2 cannot be read (first: " in said
    assert "1 are longer than the" in said


def test_labels_of_the_data_are_scored_and_strange_ones_counted(
    folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": text, "label": f" {kind} ", "kind": kind} for text, kind in words(50, seed=2)]
    rows[0] |= {"label": "unit", "kind": "unit"}
    new, out = table(tmp_path / "new.csv", rows), tmp_path / "out.parquet"
    said = predict(folder, "--data", new, "--out", out).stderr
    assert "accuracy on 49 records with a label: " in said
    assert "adapted.json promises 0.800" in said
    assert "1 have a label that is none of the task's" in said
    right = [row["label"] == each["kind"] for row, each in zip(rows_of(out), rows, strict=True)]
    summary = json.loads(
        predict(folder, "--data", new, "--out", out, "--label", "kind", "--json").stdout
    )
    assert summary["score"] == pytest.approx(sum(right) / 49)
    assert (summary["records"], summary["scored"], summary["unscored"]) == (50, 49, 1)


def test_numbers_have_intervals(tmp_path: Path) -> None:
    task = Task.from_values("n", "bytes", ["a" * (i % 17 + 1) for i in range(60)],
                            [float(i % 17) for i in range(60)])  # fmt: skip
    saved(tmp_path / "n", task, mixed_base(), read={"label": "size"})
    new = table(tmp_path / "new.csv", [{"text": "aaa", "size": 2.0}, {"text": "a", "size": "nan"}])
    result = predict(tmp_path / "n", "--data", new)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == ["origin", "value", "low", "high", "error"]
    assert float(rows[0]["low"]) < float(rows[0]["value"]) < float(rows[0]["high"])
    assert "1 have a label that is none of the task's" in result.stderr


def test_tokens_have_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raws = ["".join(rng.choice(list("ACDEFGH"), 12)) for _ in range(30)]
    labels = ["".join("HE"[letter in "ACD"] for letter in raw) for raw in raws]
    task = Task.from_token_labels("letters", "protein", raws, labels)
    saved(tmp_path / "p", task, protein_base(), read={"field": "seq", "label": "ss"})
    new = table(tmp_path / "new.csv", [{"seq": "ACDHH", "ss": "EEEHH"}, {"seq": "9", "ss": "E"}])
    said = predict(tmp_path / "p", "--data", new, "--out", tmp_path / "out.csv").stderr
    rows = rows_of(tmp_path / "out.csv")
    assert rows[0]["label"] == "E;E;E;H;H"
    assert rows[0]["p(E)"].count(";") == 4
    assert "is no residue" in rows[1]["error"]
    assert "accuracy on 5 tokens with a label: 1.000" in said
    predict(tmp_path / "p", "--data", new, "--out", tmp_path / "out.parquet")
    assert rows_of(tmp_path / "out.parquet")[0]["label"] == list("EEEHH")


def test_pictures_of_a_nested_folder_and_of_a_column_of_paths(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 120, (8, 8), dtype=np.uint8) + 120 * (i % 2))
                for i in range(30)]  # fmt: skip
    labels = [("dark", "light")[i % 2] for i in range(30)]
    base = mixed_base()
    task = Task.from_records("shades", "image", pictures, labels)
    saved(tmp_path / "shades", task, base)
    deep = tmp_path / "new" / "deep"
    deep.mkdir(parents=True)
    for i in range(4):
        pictures[i].save(deep / f"{i}.png")
    (deep / "broken.png").write_bytes(b"no picture")
    rows = list(csv.DictReader(
        predict(tmp_path / "shades", "--data", tmp_path / "new").stdout.splitlines()
    ))  # fmt: skip
    assert [Path(row["origin"]).name for row in rows] == [
        "0.png", "1.png", "2.png", "3.png", "broken.png"
    ]  # fmt: skip
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    listed = table(tmp_path / "list.csv", [{"file": f"new/deep/{i}.png"} for i in (3, 9, 0)])
    again = list(csv.DictReader(
        predict(tmp_path / "shades", "--data", listed).stdout.splitlines()
    ))  # fmt: skip
    assert [row["label"] for row in again] == [rows[3]["label"], "", rows[0]["label"]]


def test_what_can_be_refused_is_refused_before_the_base_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadbase.commands.work.predict.load_adapted", lambda _: 1 / 0)
    new = table(tmp_path / "new.csv", [{"txet": "a saw", "id": 1}])
    good = table(tmp_path / "good.csv", [{"text": "a saw"}])
    (texts := tmp_path / "texts").mkdir()
    (texts / "a.txt").write_text("a saw")
    for words, code, said in (
        ((tmp_path, "--data", new), 3, "is this the folder of an adapted base?"),
        ((folder, "--data", tmp_path / "no.csv"), 3, "does not exist"),
        ((folder, "--data", new), 3, "no column `text`; did you mean `txet`?"),
        ((folder, "--data", good, "--label", "tex"), 3, "no column `tex`; did you mean `text`?"),
        ((folder, "--data", good, "--key", "id"), 3, "no column `id`"),
        ((folder, "--data", texts, "--key", "id"), 3, "is no table, so it has no column `id`"),
        ((folder, "--data", good, "--out", tmp_path), 2, "is a folder"),
        ((folder, "--data", good, "--out", tmp_path / "x.txt"), 2, ".csv, .jsonl, .parquet"),
        ((folder, "--data", good, "--out", good), 2, "part of the data"),
        ((folder, "--data", tmp_path, "--out", tmp_path / "y.csv"), 2, "part of the data"),
    ):
        error = refused(*words)
        assert (error.exit_code, said in str(error)) == (code, True), str(error)


def test_nothing_is_written_where_no_record_can_be_read(folder: Path, tmp_path: Path) -> None:
    new, out = table(tmp_path / "new.jsonl", [{"text": 7}, {"text": 8}]), tmp_path / "out.csv"
    said = str(refused(folder, "--data", new, "--out", out))
    assert f"none of the 2 records of {new} can be read as bytes (first: {new}:1: field" in said
    assert list(tmp_path.iterdir()) == [new]


def test_records_are_read_as_they_are_predicted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "BATCH", 50)
    given = 0

    def records() -> Iterator[Record]:
        nonlocal given
        for i in range(5000):
            given += 1
            yield Record(f"{FRUIT[i % 4]} {i}", f"here:{i}")

    adapted, count = load_adapted(folder), 0
    for batch in Predictor(adapted).batches(records()):
        assert given - count == len(batch) == 50
        count += len(batch)
    assert count == 5000
    assert not adapted.fitted.encoder._vectors  # type: ignore[attr-defined]
    assert not adapted.fitted.encoder._properties  # type: ignore[attr-defined]


MEMORY = (
    "import resource, sys\n"
    "from broadbase.commands.app import app\n"
    "app(sys.argv[1:], standalone_mode=False)\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(folder: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (5_000, 100_000):
        new = tmp_path / f"{count}.csv"
        new.write_text("text,label\n" + "".join(f"fig {i},fruit\n" for i in range(count)))
        words = ["predict", str(folder), "--data", str(new), "--out", str(tmp_path / "o.parquet")]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *words], capture_output=True, text=True, check=True
        )
        assert pq.ParquetFile(tmp_path / "o.parquet").metadata.num_rows == count
        peaks.append(int(done.stdout) / 1024)  # MiB
    assert peaks[1] - peaks[0] < 100, peaks
