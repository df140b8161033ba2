"""Updates of an index: only what changed is embedded, and what is gone leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broadbase.core.sources import Record, Reject
from broadbase.index.store import Store, Vectors
from broadbase.index.writing import BATCH, matching, update
from support.indexes import READING, embed, index, texts

TEXTS = {f"/notes/{i}.txt": f"note {i} of the archive" for i in range(10)}


def records(texts: Mapping[str, str]) -> list[Record | Reject]:
    return [Record(text, origin) for origin, text in texts.items()]


def updated(store: Store, items: Sequence[Record | Reject], source: str = "/notes") -> Any:
    """What an update did, and how many passages it embedded."""
    embedded: list[Any] = []

    def counted(raws: Sequence[Any]) -> Vectors:
        embedded.extend(raws)
        return embed(raws)

    result = update(store, source, items, replace(READING, embed=counted))
    return {k: v for k, v in result.summary().items() if v}, len(embedded)


def test_a_second_time_only_what_changed_is_embedded(tmp_path: Path) -> None:
    store = index(tmp_path / "i")
    assert updated(store, records(TEXTS)) == ({"added": 10}, 10)
    state = store.state
    assert updated(store, records(TEXTS)) == ({"unchanged": 10}, 0)
    assert store.state == state
    later = {**TEXTS, "/notes/3.txt": "another text", "/notes/new.txt": "a new one"}
    del later["/notes/5.txt"]
    counts = {"added": 1, "changed": 1, "unchanged": 8, "removed": 1}
    assert updated(store, records(later)) == (counts, 2)
    assert texts(store) == later


def test_sources_do_not_remove_each_other(tmp_path: Path) -> None:
    store = index(tmp_path / "i")
    updated(store, records(TEXTS))
    assert updated(store, [Record("a letter", "/letters/a")], "/letters") == ({"added": 1}, 1)
    assert updated(store, records({"/notes/1.txt": TEXTS["/notes/1.txt"]})) == (
        {"unchanged": 1, "removed": 9}, 0,
    )  # fmt: skip
    assert [*texts(store)] == ["/notes/1.txt", "/letters/a"]


def test_what_cannot_be_read_now_stays(tmp_path: Path) -> None:
    store = index(tmp_path / "i")
    rows = {f"/notes/t.csv:{i}": f"row {i}" for i in range(3)}
    updated(store, records({**TEXTS, **rows}))
    items = [Reject("/notes/t.csv", "no permission"), Reject("/notes/0.txt", "empty", empty=True)]
    assert updated(store, items) == ({"removed": 10, "unreadable": 1}, 0)
    assert texts(store) == rows


def test_a_record_that_the_base_cannot_read_is_counted(tmp_path: Path) -> None:
    def clean(raw: Any) -> Any:
        if "bad" in raw:
            raise ValueError("expected no bad words")
        return raw

    store = index(tmp_path / "i")
    items = [Record("a good text", "a"), Record("a bad text", "b")]
    result = update(store, "s", items, replace(READING, clean=clean))
    assert (result.unreadable, result.first) == (1, "b: expected no bad words")
    assert [*texts(store)] == ["a"]


def test_records_of_one_origin_are_numbered(tmp_path: Path) -> None:
    store = index(tmp_path / "i")
    updated(store, [Record("one", "f"), Record("two", "f"), Record("three", "f")])
    assert texts(store) == {"f": "one", "f (2)": "two", "f (3)": "three"}


def test_a_long_document_has_several_passages_with_their_spans(tmp_path: Path) -> None:
    store, text = index(tmp_path / "i"), "A sentence of five words. " * 12
    updated(store, [Record(text, "long")])
    spans = store.spans(store.vectors()[0])
    assert len(spans) == 3
    assert all(text[span.start : span.stop] == span.text for span in spans)


def test_batches_are_committed_as_they_are_read(tmp_path: Path) -> None:
    store, counts = index(tmp_path / "i"), list[int]()
    many = (Record(f"text {i}", f"{i}") for i in range(2 * BATCH + 1))
    update(store, "s", many, READING, lambda _: counts.append(store.counts()[0]))
    assert sorted({*counts}) == [0, BATCH, 2 * BATCH]
    assert store.counts() == (2 * BATCH + 1, 2 * BATCH + 1)


@pytest.mark.parametrize(
    ("name", "count"),
    [("/notes", 10), ("/notes/", 10), ("/notes/1.txt", 1), ("/not", 0), ("/n/1", 0)],
)
def test_documents_are_named_by_source_folder_or_origin(
    tmp_path: Path, name: str, count: int
) -> None:
    store = index(tmp_path / "i")
    updated(store, records(TEXTS))
    assert len(matching(store, name)) == count
