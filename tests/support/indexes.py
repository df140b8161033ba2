"""Indexes of small documents with vectors that a test computes. It imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.index.passages import Passage
from broadbase.index.store import Document, Store, Vectors
from broadbase.index.writing import Reading

WIDTH = 16


def vector(text: Any) -> Vectors:
    """A vector of length 1 that depends on the words of a text: texts that share words are near."""
    rows = [np.zeros(WIDTH, np.float32)]
    for word in str(text).lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        rows.append(np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32))
    total = np.sum(rows, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)


def embed(raws: Sequence[Any]) -> Vectors:
    return np.stack([vector(raw) for raw in raws]) if raws else np.zeros((0, WIDTH), np.float32)


def digest(raw: Any) -> str:
    return hashlib.sha256(str(raw).encode()).hexdigest()


READING = Reading(lambda raw: raw, embed, lambda text: len(text.split()), 20, digest)


def document(origin: str, text: str, source: str = "source") -> Document:
    return Document(origin, source, digest(text), [Passage(0, len(text), text)])


def put(store: Store, texts: Mapping[str, str], source: str = "source") -> None:
    documents = [document(origin, text, source) for origin, text in texts.items()]
    store.put(documents, embed([*texts.values()]))


def index(path: Path, texts: Mapping[str, str] | None = None) -> Store:
    store = Store.create(path, {"base": "a base"})
    if texts:
        put(store, texts)
    return store


def texts(store: Store) -> dict[str, str]:
    """What an index has of every document, which must be consistent: words, vectors and all."""
    connection = store._connection
    connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    numbers, rows = store.vectors()
    spans = store.spans(numbers)
    if spans:
        np.testing.assert_allclose(rows, embed([span.text for span in spans]), atol=1e-3)
    assert store.counts() == (len(store.digests()), len(spans))
    return {span.origin: span.text for span in spans}


def contents(step: int) -> dict[str, str]:
    """The documents after so many operations, each of which is a transaction."""
    result: dict[str, str] = {}
    for i in range(step):
        result |= changed(i)
        for origin in removed(i):
            result.pop(origin, None)
    return result


def changed(step: int) -> dict[str, str]:
    """Documents that an operation writes: new ones, or old ones anew."""
    if step % 3 == 2:
        return {}
    first = 40 * (step // 3)
    names = range(first, first + 40) if step % 3 == 0 else range(first, first + 20)
    return {f"d{i}": f"document {i} of step {step} " + "with many words " * 20 for i in names}


def removed(step: int) -> list[str]:
    first = 40 * (step // 3)
    return [f"d{i}" for i in range(first + 10, first + 25)] if step % 3 == 2 else []


def operate(path: Path, step: int) -> None:
    """Go on from an operation, and say of each when it is committed."""
    store = Store.open(path, write=True)
    while True:
        if step % 3 == 2:
            store.remove(removed(step))
        else:
            put(store, changed(step))
        step += 1
        print(step, flush=True)
        if step % 3 == 0:
            store.tidy()
