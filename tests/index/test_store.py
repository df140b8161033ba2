"""The file of an index: all of a document or nothing, and what is removed is not in its bytes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.index.store import Store
from broadbase.index.vectors import copy_of, discard, matrix
from support.indexes import digest, document, embed, index, put, texts

TEXTS = {f"d{i}": f"document {i} of the harbour says number{i}" for i in range(30)}
SECRET = "zanzibarquartz xylophonemarmalade"


def bytes_of(folder: Path) -> bytes:
    """The bytes of all files of a folder: the index, its copy, journals."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_is_put_is_read_again_in_a_new_process(tmp_path: Path) -> None:
    index(tmp_path / "i", TEXTS).close()
    store = Store.open(tmp_path / "i")
    assert texts(store) == TEXTS
    assert store.digests()["d3"] == ("source", digest(TEXTS["d3"]))
    assert store.facts["base"] == "a base"


OPERATION = st.tuples(
    st.sampled_from(["put", "remove"]),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["red sea", "blue sea", "sky"])),
)


@given(st.lists(OPERATION, max_size=8))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_index_is_as_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, dict[str, str]]]
) -> None:
    store, expected = index(tmp_path_factory.mktemp("x") / "i"), dict[str, str]()
    for name, some in operations:
        before = store.state
        if name == "put":
            put(store, some)
            expected |= some
        else:
            assert store.remove(some) == len(expected.keys() & some.keys())
            expected = {k: v for k, v in expected.items() if k not in some}
        assert store.state != before
    assert texts(store) == expected
    store.tidy()
    assert texts(store) == expected
    store.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_removed_text_is_not_in_the_bytes(tmp_path: Path, how: str) -> None:
    store = index(tmp_path / "i", {**TEXTS, "secret": f"the {SECRET} text"})
    matrix(store)
    assert SECRET.encode() in bytes_of(tmp_path)
    discard(store.path)
    if how == "removed":
        store.remove(["secret"])
    else:
        put(store, {"secret": "another text"})
    store.tidy()
    vectors = matrix(store).vectors
    content = bytes_of(tmp_path)  # while it is open, with any journal
    for word in SECRET.split():
        assert word.encode() not in content
        assert word[3:].encode() not in content  # words of an index share their beginnings
    assert embed([f"the {SECRET} text"]).astype("f4").tobytes() not in content
    assert embed([f"the {SECRET} text"]).astype("f2").tobytes() not in content
    assert len(vectors) == len(TEXTS) + (how == "replaced")


def test_words_that_a_kill_left_are_overwritten_by_the_next_writer(tmp_path: Path) -> None:
    store = index(tmp_path / "i", {**TEXTS, "secret": SECRET})
    store.remove(["secret"])
    store.close()  # before `tidy`, as a kill would
    Store.open(tmp_path / "i", write=True).close()
    assert b"zanzibarquartz" not in bytes_of(tmp_path)


def test_equal_documents_are_separate(tmp_path: Path) -> None:
    store = index(tmp_path / "i", {"a": "the same text", "b": "the same text"})
    assert store.remove(["a"]) == 1
    assert texts(store) == {"b": "the same text"}
    assert len(store.matches('"same"', 10)) == 1


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = index(tmp_path / "i", TEXTS)
    state = store.state
    with pytest.raises(ValueError, match="shorter"):  # a vector is missing
        store.put([document("d0", "new"), document("x", "new")], embed(["new"]))
    assert (texts(store), store.state) == (TEXTS, state)


def test_the_copy_is_made_again_where_it_does_not_match(tmp_path: Path) -> None:
    store = index(tmp_path / "i", TEXTS)
    assert len(matrix(store).vectors) == 30
    before = copy_of(store.path).read_bytes()
    put(store, {"more": "one more"})
    assert len(matrix(store).vectors) == 31
    assert copy_of(store.path).read_bytes() != before
    copy_of(store.path).write_bytes(before[:100])
    assert len(matrix(store).vectors) == 31
    copy_of(store.path).unlink()
    copy_of(store.path).mkdir()  # the copy cannot be written
    assert len(matrix(store).vectors) == 31


def test_an_empty_index_has_no_vectors(tmp_path: Path) -> None:
    store = index(tmp_path / "i")
    assert matrix(store).vectors.shape[0] == 0
    assert store.matches('"a"', 3) == []


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no index"):
        Store.open(tmp_path / "none")
    (tmp_path / "text").write_text("a text, and no database at all " * 100)
    with pytest.raises(DataError, match="is no index"):
        Store.open(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(DataError, match="is a database, and no index"):
        Store.open(tmp_path / "other")
    index(tmp_path / "i").close()
    with pytest.raises(ConfigError, match="exists"):
        index(tmp_path / "i")
    later = sqlite3.connect(tmp_path / "i")
    later.execute("PRAGMA user_version = 9")
    later.close()
    with pytest.raises(DataError, match="format 9"):
        Store.open(tmp_path / "i")


def test_a_disk_that_refuses_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(tmp_path / "i", TEXTS).close()
    connect = sqlite3.connect

    def read_only(path: Path, **options: object) -> sqlite3.Connection:
        """As a disk that is mounted to be read alone; root may write where modes forbid it."""
        return connect(f"file:{path}?mode=ro", uri=True, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert texts_of_read_only(tmp_path / "i") == 30
    with pytest.raises(ResourceError, match=r"i cannot be used: attempt to write a readonly"):
        Store.open(tmp_path / "i", write=True)


def texts_of_read_only(path: Path) -> int:
    store = Store.open(path)
    return len(store.spans(store.vectors()[0]))


def test_a_file_that_another_process_writes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadbase.index.database.WAIT", 0.05)
    index(tmp_path / "i", TEXTS)
    other = sqlite3.connect(tmp_path / "i", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ResourceError, match="locked"):
        Store.open(tmp_path / "i", write=True)
    other.close()
