"""Embeddings on disk: the same bits as without them, and no reason of an error."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from broadbase.adapt import vector_cache
from broadbase.adapt.encoder import LAST, LAYERS, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.vector_cache import VectorCache, opened, reading_of
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.usages import plain_usage
from broadbase.weights.folder import load, save
from support.bases import mixed_base, protein_base, text_base
from support.programs import Program
from support.runs import broadbase

TEXTS = [f"record {i} {'and more ' * (i % 7)}" for i in range(40)]
PICTURES = [np.full((4, 4), i, np.uint8) for i in range(20)]


def cache(folder: Path, limit: float = 1e9) -> VectorCache:
    return VectorCache(folder / "embeddings.sqlite", int(limit))


@dataclass(frozen=True, repr=False)
class Counted(Base):
    """A base that counts the records it embeds."""

    embedded: list[Any] = field(default_factory=list)

    def embed(self, raws: Any, **settings: Any) -> NDArray[np.float32]:
        self.embedded.extend(raws)
        return super().embed(raws, **settings)


def counted(base: Base) -> Counted:
    return Counted(base.config, base.model, base.codecs, base.usage)


def some(count: int, width: int = 8, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return {f"{seed}:{i}": row for i, row in enumerate(rows)}


@pytest.mark.parametrize(("modality", "raws"), [("bytes", TEXTS), ("image", PICTURES)])
def test_the_same_bits_with_and_without_a_cache(
    tmp_path: Path, modality: str, raws: list[Any]
) -> None:
    base, inputs = counted(mixed_base()), Inputs([*raws, raws[0]])  # equal ones too
    without = Encoder(base, modality, cache=None)
    for name in without.representations(inputs):
        cold = Encoder(base, modality, cache(tmp_path)).vectors(inputs, name)
        warm = Encoder(base, modality, cache(tmp_path)).vectors(inputs, name)
        np.testing.assert_array_equal(cold, without.vectors(inputs, name))
        np.testing.assert_array_equal(warm, cold)


def test_a_record_is_read_once_and_counted(tmp_path: Path) -> None:
    base = counted(mixed_base())
    first = Encoder(base, "bytes", cache(tmp_path))
    first.keep(Inputs(TEXTS[:30]))
    assert sorted(base.embedded) == sorted(TEXTS[:30])
    second, done = Encoder(base, "bytes", cache(tmp_path)), list[int]()
    second.keep(Inputs(TEXTS), done.append)
    assert sorted(base.embedded) == sorted(TEXTS)
    assert sum(done) == len(TEXTS)
    assert second.cache is not None
    assert (second.cache.hits, second.cache.wanted) == (30, 40)
    second.vectors(Inputs(TEXTS), LAST)  # they are kept in memory
    assert second.cache.wanted == 40


def changes() -> dict[str, Base]:
    """Bases that differ from `mixed_base` in one thing each."""
    one, base = mixed_base(), mixed_base()
    with torch.no_grad():
        next(one.model.parameters()).flatten()[0] += 1e-3
    return {
        "one number": one,
        "type": replace(base, model=mixed_base().model.to(torch.bfloat16)),
        "attention": replace(base, usage=plain_usage("full")),
        "random init": base.reinitialised(1),
        "another": protein_base(),
    }


@pytest.mark.parametrize("change", ["one number", "type", "attention", "random init", "another"])
def test_another_base_gets_vectors_of_its_own(change: str) -> None:
    other = changes()[change]
    assert reading_of(other, modality="bytes") != reading_of(mixed_base(), modality="bytes")


def test_the_same_base_in_another_process_finds_its_vectors(tmp_path: Path) -> None:
    save(text_base(), tmp_path / "base")
    first, again = load(tmp_path / "base"), load(tmp_path / "base")
    assert reading_of(first, modality="text") == reading_of(again, modality="text")
    assert reading_of(first.reinitialised(3)) == reading_of(again.reinitialised(3))
    assert reading_of(first, max_tokens=8) != reading_of(first, max_tokens=9)


def test_another_tokenizer_gets_vectors_of_its_own() -> None:
    base = text_base()
    other = {"text": base.config.modalities["text"].fit(["quite other words are learned here"])}
    assert reading_of(replace(base, codecs=other)) != reading_of(base)


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000, b""])
def test_a_file_that_is_no_database_is_begun_again(tmp_path: Path, content: bytes) -> None:
    damaged, vectors = cache(tmp_path), some(3)
    damaged.path.write_bytes(content)
    assert damaged.get("a", [*vectors]) == {}
    damaged.put("a", vectors)
    assert bool(damaged.notes) == bool(content)
    assert {*damaged.get("a", [*vectors])} == {*vectors}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.floats(0, 1), byte=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_gives_right_vectors_or_none(
    tmp_path: Path, at: float, byte: int, cut: bool
) -> None:
    vectors, file = some(30, width=600), cache(tmp_path)
    file.clear()
    file.put("a", vectors)
    content = bytearray(file.path.read_bytes())
    place = int(at * (len(content) - 1))
    content[place] ^= byte
    file.path.write_bytes(content[: place if cut else None])
    again = cache(tmp_path)
    for record, vector in again.get("a", [*vectors]).items():
        np.testing.assert_array_equal(vector, vectors[record])
    again.put("a", vectors)
    again.put("b", vectors)
    for record, vector in again.get("a", [*vectors]).items():
        np.testing.assert_array_equal(vector, vectors[record])


def test_the_file_is_bounded_and_the_least_used_go_first(tmp_path: Path) -> None:
    limit = 400_000
    first = some(50, width=250, seed=1)
    cache(tmp_path, limit).put("a", first)
    for seed in range(2, 12):
        cache(tmp_path, limit).put("a", some(50, width=250, seed=seed))
        assert cache(tmp_path, limit).get("a", [*first]).keys() == first.keys()  # used each time
        assert cache(tmp_path).path.stat().st_size <= 1.1 * limit
    assert not cache(tmp_path).get("a", [*some(50, seed=2)])
    assert cache(tmp_path).get("a", [*some(50, seed=11)])


def test_one_process_does_not_fill_the_file(tmp_path: Path) -> None:
    stream = cache(tmp_path, 400_000)
    for seed in range(20):
        stream.put("a", some(50, width=250, seed=seed))
    assert stream.path.stat().st_size < 300_000
    assert stream.get("a", [*some(50, seed=0)])
    stream.put("b", {"huge": np.zeros(300_000, np.float32)})
    assert not stream.get("b", ["huge"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    closed = cache(tmp_path)
    closed.put("a", some(3))
    tmp_path.chmod(0o700)
    assert closed.notes


def test_a_path_that_cannot_be_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = cache(tmp_path / "file")
    nowhere.put("a", some(3))
    assert not nowhere.get("a", [*some(3)])
    assert nowhere.notes


def test_a_locked_file_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "WAIT", 0.05)
    locked = cache(tmp_path)
    locked.put("a", some(3))
    with sqlite3.connect(locked.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not locked.get("a", [*some(3)])
        locked.put("a", some(3, seed=1))
        other.execute("ROLLBACK")
    assert "locked" in locked.notes[0]
    assert locked.get("a", [*some(3)])


# reads and writes records of known vectors
WRITE = """
import sys
from pathlib import Path
import numpy as np
from broadbase.adapt.vector_cache import VectorCache
file, turns, began = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
for turn in range(turns):
    shared = VectorCache(file, 3_000_000)
    first = turn % 7 * 40
    rows = {str(i): np.full(500, i, np.float32) for i in range(first, first + 90)}
    for record, row in shared.get("a", [*rows]).items():
        np.testing.assert_array_equal(row, rows[record])
    shared.put("a", rows)
    assert not shared.notes, shared.notes
    began.touch()
"""


def writing(file: Path, turns: int, began: Path) -> Program:
    """A process that has begun to write."""
    program, end = Program(WRITE, file, turns, began), time.monotonic() + 60
    while not began.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    return program


def test_two_processes_at_once_and_kills_at_any_moment(tmp_path: Path) -> None:
    file, rng = tmp_path / "embeddings.sqlite", np.random.default_rng(0)
    steady = writing(file, 120, tmp_path / "first")
    for i in range(4):
        killed = writing(file, 10_000, tmp_path / f"{i}")
        time.sleep(rng.uniform(0.02, 0.2))
        assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    done = steady.done(60)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = VectorCache(file, 3_000_000).get("a", [str(i) for i in range(330)])
    assert len(rows) > 80
    assert all((row == int(record)).all() for record, row in rows.items())


@pytest.mark.parametrize("value", ["two", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BROADBASE_CACHE_GB", value)
    with pytest.raises(ConfigError, match="BROADBASE_CACHE_GB"):
        opened()


def test_commands_share_it_say_so_and_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROADBASE_CACHE", str(tmp_path / "cache"))
    save(mixed_base().reinitialised(7), base := tmp_path / "base")
    with (table := tmp_path / "table.csv").open("w", newline="") as file:
        rows = [(f"{'apple' if i % 2 else 'drill'} {i}", "ab"[i % 2]) for i in range(40)]
        csv.writer(file).writerows([("text", "label"), *rows])
    words = ["adapt", base, "--data", table, "--modality", "bytes", "--splits", "2", "--json"]
    off = broadbase(*words)  # as tests are: BROADBASE_CACHE_GB=0
    assert not (tmp_path / "cache" / "embeddings.sqlite").exists()
    monkeypatch.setenv("BROADBASE_CACHE_GB", "0.1")
    cold = broadbase(*words, "--out", tmp_path / "kinds")
    warm = broadbase(*words)
    assert off.stdout == cold.stdout == warm.stdout
    assert "120 of 120 embeddings come from the cache" in warm.stderr
    knn = broadbase(*words, "--method", "knn")
    assert "120 of 120 embeddings come from the cache" in knn.stderr
    new = ["predict", tmp_path / "kinds", "--data", table]
    predicted = broadbase(*new)
    assert "40 of 40 embeddings come from the cache" in predicted.stderr
    plain = broadbase(*new, "--no-cache")
    assert plain.stdout == predicted.stdout
    assert "cache" not in plain.stderr
    assert "120 embeddings by 3 bases" in broadbase("cache").stdout
    assert "0 embeddings by 0 bases" in broadbase("cache", "--clear").stdout
    assert "cache" not in broadbase(*new).stderr
    (tmp_path / "cache" / "embeddings.sqlite").write_bytes(b"damaged")
    damaged = broadbase(*new)
    assert damaged.stdout == predicted.stdout
    assert "was damaged" in damaged.stderr


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    encoder = Encoder(protein_base(), "protein", cache(tmp_path))
    encoder.keep(Inputs(["MKV", "AAC"], per_token=True))
    assert encoder.vectors(Inputs(["MKV", "AAC"], per_token=True), LAYERS).shape[0] == 6
    assert not cache(tmp_path).path.exists()
