"""`index` and `search` from the command line: what users type, and what they get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from broadbase.core.errors import ConfigError, DataError
from broadbase.index.store import Store
from broadbase.index.vectors import copy_of
from broadbase.weights.folder import save
from support.bases import mixed_base, text_base
from support.runs import broadbase

NOTES = {
    "ship.txt": "The ship leaves the harbour at noon. It sails north.",
    "cook.txt": "The cook makes soup in the kitchen.",
    "below/copy.txt": "The cook makes soup in the kitchen.",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base and notes, where commands are given."""
    save(text_base(), tmp_path / "base")
    for name, text in NOTES.items():
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index(*words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(broadbase("index", *words, "--json").stdout)
    return result


def search(*words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(broadbase("search", *words, "--json").stdout)
    return rows


def counts(**some: int) -> dict[str, int]:
    names = ("added", "changed", "unchanged", "removed", "unreadable")
    return {**dict.fromkeys(names, 0), **some}


def test_a_folder_is_indexed_searched_and_brought_up_to_date(desk: Path) -> None:
    first = index("notes", "--base", "base", "--out", "i", "--tokens", "90")
    assert first == counts(added=3, documents=3, passages=3)
    rows = search("i", "harbour", "--weight", "0.2")
    assert rows[0]["source"] == str(desk / "notes" / "ship.txt")
    text = NOTES["ship.txt"][rows[0]["start"] : rows[0]["stop"]]
    assert rows[0]["text"] == text
    (desk / "notes" / "ship.txt").unlink()
    (desk / "notes" / "new.txt").write_text("A letter from the lighthouse.")
    again = index("notes", "--out", "i")
    assert again == counts(added=1, unchanged=2, removed=1, documents=3, passages=3)
    assert search("i", "lighthouse", "--weight", "0")[0]["text"] == "A letter from the lighthouse."
    assert b"harbour" not in (desk / "i").read_bytes()


def test_of_equal_documents_one_is_removed(desk: Path) -> None:
    index("notes", "--base", "base", "--out", "i")
    assert index("notes/cook.txt", "--out", "i", "--remove")["removed"] == 1
    sources = [row["source"] for row in search("i", "soup", "--weight", "0")]
    assert sources == [str(desk / "notes" / "below" / "copy.txt")]
    assert index("notes", "--out", "i", "--remove") == {
        "removed": 2, "documents": 0, "passages": 0,
    }  # fmt: skip
    content = (desk / "i").read_bytes() + copy_of(desk / "i").read_bytes()
    assert not any(word in content for word in (b"kitchen", b"harbour", b"soup"))


def test_what_is_printed_for_people(desk: Path) -> None:
    index("notes", "--base", "base", "--out", "i")
    printed = broadbase("search", "i", "ship", "--k", "1", "--weight", "0.2").stdout
    assert f"1. {desk / 'notes' / 'ship.txt'}, characters 0-" in printed
    assert "The ship leaves the harbour" in printed


def test_a_query_may_be_a_file(desk: Path) -> None:
    index("notes", "--base", "base", "--out", "i")
    (desk / "query.txt").write_text(NOTES["ship.txt"])
    assert search("i", "query.txt", "--weight", "1")[0]["cosine"] == pytest.approx(1, abs=1e-3)


def test_a_table_is_indexed_by_its_rows(desk: Path) -> None:
    rows = [{"body": f"row {i} of the ledger", "x": i} for i in range(5)]
    (desk / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = index("t.jsonl", "--base", "base", "--out", "i", "--field", "body")
    assert result["documents"] == 5
    assert search("i", "ledger 3", "--weight", "0")[0]["text"] == "row 3 of the ledger"


def test_pictures_are_searched_by_a_picture(desk: Path) -> None:
    save(mixed_base(), desk / "seeing")
    (desk / "pictures").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4)).astype(np.uint8)
        Image.fromarray(pixels).save(desk / "pictures" / f"{i}.png")
    words = ("pictures", "--base", "seeing", "--modality", "image", "--out", "i")
    assert index(*words)["passages"] == 4
    rows = search("i", "pictures/2.png", "--k", "2")
    assert rows[0]["source"] == str(desk / "pictures" / "2.png")
    assert rows[0]["cosine"] == pytest.approx(1, abs=1e-3)
    assert (rows[0]["start"], rows[0]["text"]) == (None, "")


def test_vectors_leave_as_parquet(desk: Path) -> None:
    index("notes", "--base", "base", "--out", "i")
    broadbase("index", "--out", "i", "--export", "v.parquet")
    rows = pq.read_table(desk / "v.parquet").to_pylist()
    assert {row["text"] for row in rows} == {*NOTES.values()}
    for row in rows:
        assert np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-2)


def test_an_index_of_another_base_is_an_error(desk: Path) -> None:
    index("notes", "--base", "base", "--out", "i")
    save(text_base().reinitialised(4), desk / "other")
    before = (desk / "i").read_bytes()
    for words in (("search", "i", "ship", "--base", "other"),
                  ("index", "notes", "--base", "other", "--out", "i")):  # fmt: skip
        with pytest.raises(ConfigError, match="is an index of another base"):
            broadbase(*words)
    save(text_base().reinitialised(4), desk / "base")  # trained again under its name
    with pytest.raises(ConfigError, match="is an index of another base"):
        broadbase("search", "i", "ship")
    assert (desk / "i").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("index", "--out", "i"), "give the documents to index"),
        (("index", "notes", "--out", "i"), "name the base of the new index with --base"),
        (("index", "notes", "--base", "base", "--out", "i", "--tokens", "9999"), "reads"),
        (("index", "--out", "i", "--export", "v.csv"), "is no .parquet file"),
        (("index", "nothing", "--base", "base", "--out", "i"), "does not exist"),
        (("index", "pictures", "--base", "base", "--out", "i"), "cannot|can be read"),
        (("search", "i", "ship"), "is no index"),
        (("search", "notes/ship.txt", "ship"), "is no index, or is damaged"),
        (("index", "gone", "--out", "i", "--remove"), "is no index"),
    ],
)
def test_bad_input_is_named_and_leaves_no_file(
    desk: Path, words: tuple[str, ...], message: str
) -> None:
    (desk / "pictures").mkdir()
    Image.new("L", (4, 4)).save(desk / "pictures" / "a.png")
    with pytest.raises((ConfigError, DataError), match=message):
        broadbase(*words)
    assert not (desk / "i").exists()
    assert not copy_of(desk / "i").exists()


@pytest.mark.usefixtures("desk")
def test_the_settings_of_an_index_stay() -> None:
    index("notes", "--base", "base", "--out", "i", "--tokens", "90")
    with pytest.raises(ConfigError, match="has --tokens 90"):
        broadbase("index", "notes", "--out", "i", "--tokens", "20")
    with pytest.raises(DataError, match="has no document"):
        broadbase("index", "elsewhere", "--out", "i", "--remove")
    Path("base").rename("moved")
    with pytest.raises(DataError, match="which is gone; give --base"):
        broadbase("search", "i", "ship")
    assert Store.open(Path("i")).counts() == (3, 3)
    assert search("i", "ship", "--base", "moved")
