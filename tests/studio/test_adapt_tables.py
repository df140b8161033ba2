"""What Adapt does behind its pages: uploads, guesses, commands, jobs, and merged predictions."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.studio.adapt_commands import result_command
from broadbase.studio.jobs import Jobs
from broadbase.studio.kept import KeptBases, csv_lines, predicted_rows, probabilities
from broadbase.studio.tables import check, guess_field, guess_label, look
from broadbase.studio.uploads import Upload, Uploads, safe_name
from support.adapting import saved
from support.bases import text_base
from support.runs import broadbase

ROWS = [(f"{('apple pear plum', 'saw drill axe')[i % 2]} {i}", "ab"[i % 2]) for i in range(24)]


def keep(folder: Path, content: bytes, name: str = "t.csv") -> Upload:
    return Uploads(folder).keep(name, io.BytesIO(content))


def written(*rows: tuple[str, ...], separator: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_table_of_a_spreadsheet_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    text = written(("Text", "Gruppe"), ("schöne Grüße", "ja"), ("naïve", "nein"), separator=";")
    upload = keep(tmp_path, text.encode(encoding))
    assert [list(row) for row in look(upload).preview] == [
        ["schöne Grüße", "ja"],
        ["naïve", "nein"],
    ]
    assert bool(upload.note) == (encoding in ("cp1252", "utf-16"))
    assert Uploads(tmp_path).get(upload.id).note == upload.note


def test_the_same_table_is_kept_once_and_others_are_not_there(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    first, second = (uploads.keep("t.csv", io.BytesIO(b"a,b\n1,2\n")) for _ in range(2))
    assert first == second
    assert uploads.all() == [first]
    for name in ("0" * 12, "..", "../../etc", ""):
        with pytest.raises(HTTPException):
            uploads.get(name)


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    for name, content in (("a.csv", b""), ("a.csv", b"a\0b"), ("a.xlsx", b"x"), ("a.exe", b"x")):
        with pytest.raises(DataError, match="; "):
            keep(tmp_path, content, name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_a_name_is_one_of_a_file_in_its_folder(given_name: str) -> None:
    name = safe_name(given_name)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(name) < 80


def test_columns_are_guessed_by_what_they_hold(tmp_path: Path) -> None:
    rows = [(str(i), text, label, str(i / 7)) for i, (text, label) in enumerate(ROWS)]
    table = look(keep(tmp_path, written(("id", "words", "group", "price"), *rows).encode()))
    assert guess_field(table)[0] == "words"
    assert guess_label(table, "words") == ("group", "it has few values, 2 different ones")
    named = look(keep(tmp_path, written(("label", "text"), *((b, a) for a, b in ROWS)).encode()))
    assert guess_field(named) == ("text", "its name says so")
    assert guess_label(named, "text") == ("label", "its name says so")


def test_a_sorted_table_shows_all_its_classes(tmp_path: Path) -> None:
    rows = [(f"words of {i}", "first" if i < 300 else "second") for i in range(600)]
    upload = keep(tmp_path, written(("text", "is"), *rows).encode())
    assert guess_label(look(upload), "text")[0] == "is"
    checked = check(upload, "text", "is", None)
    assert checked.kind == "classes"
    assert "first 300, second 300" in checked.notes[0]


def test_parquet_is_looked_at(tmp_path: Path) -> None:
    data = io.BytesIO()
    pq.write_table(pa.table({"text": ["a b c", "d e f"], "n": [1.5, 2.5]}), data)
    table = look(keep(tmp_path, data.getvalue(), "t.parquet"))
    assert guess_field(table)[0] == "text"
    assert [column.numbers for column in table.columns] == [False, True]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptBases:
    root = tmp_path_factory.mktemp("kept")
    data = root / "things.csv"
    data.write_text(written(("words", "kind"), *ROWS), newline="")
    texts, kinds = zip(*ROWS, strict=True)
    task = Task.from_records("things", "text", list(texts), list(kinds))
    read = {"data": str(data), "field": "words", "label": "kind"}
    saved(root / "adapted" / "things", task, text_base(), read=read)
    return KeptBases(root, "cpu")


def test_every_command_of_a_page_runs(kept: KeptBases, tmp_path: Path) -> None:
    card, out = kept.card("things"), tmp_path / "predicted.csv"
    upload = keep(tmp_path / "up", written(("n", "words"), ("1", "pear fig"), ("2", "")).encode())
    words, note = result_command("predict", card, upload, out, "")
    assert not note
    broadbase(*words)
    rows = list(predicted_rows(upload.path, out))
    assert [row["n"] for row in rows] == ["1", "2"]
    assert rows[0]["predicted"] in ("a", "b")
    assert "empty" in rows[1]["error"]
    lines = "".join(csv_lines(iter(rows))).splitlines()
    assert lines[0].startswith("n,words,predicted,")
    assert lines[0].endswith(",error")
    words, _ = result_command("doubts", card, None, out, "")
    assert json.loads(broadbase(*words).stdout)["labels"] == len(ROWS)
    words, _ = result_command("suggest", card, upload, out, "")
    assert [row["words"] for row in json.loads(broadbase(*words).stdout)] == ["pear fig"]


def test_another_name_of_the_text_is_said(kept: KeptBases, tmp_path: Path) -> None:
    card = kept.card("things")
    upload = keep(tmp_path, written(("message",), ("pear fig",)).encode())
    words, note = result_command("predict", card, upload, tmp_path / "out.csv", "")
    assert words[-1] == "message"
    assert "'message' is read in its place" in note
    numbers = keep(tmp_path, written(("n",), ("1",)).encode())
    with pytest.raises(ConfigError, match="rename one of them to words"):
        result_command("predict", card, numbers, tmp_path / "out.csv", "")


def test_what_is_kept_is_listed_and_predicts(kept: KeptBases) -> None:
    assert [card.name for card in kept.all()] == ["things"]
    (row,) = kept.predict("things", ["pear fig"])
    assert next(name for name, _ in probabilities(row)) == row["label"]
    for name in ("..", "../things", "", "nothing"):
        with pytest.raises(HTTPException):
            kept.card(name)


def test_a_job_runs_by_itself_and_says_how_it_ended(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    jobs.start("adapt-x", ["adapt", "nowhere", "--data", "nothing.csv"], what="adapt")
    with pytest.raises(ConfigError, match="runs already"):
        jobs.start("adapt-x", ["doctor"])
    again = Jobs(tmp_path).get("adapt-x")  # as another server sees it
    assert again.running
    deadline = time.monotonic() + 120
    while again.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not again.running
    assert "nothing.csv" in again.error() or "nowhere" in again.error()
    assert again.command == "broadbase adapt nowhere --data nothing.csv"
    stopped = jobs.start("adapt-y", ["adapt", "nowhere", "--data", "nothing.csv"])
    stopped.stop()
    while stopped.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stopped.running
    assert {each.name for each in jobs.all()} == {"adapt-x", "adapt-y"}
    with pytest.raises(HTTPException):
        jobs.get("../adapt-x")
