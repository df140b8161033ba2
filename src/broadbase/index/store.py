"""The file of an index: documents and their passages, words and vectors, in one SQLite database.

documents    origin, the source it was read from, the digest of its content
passages     a span of a document, with its text where it has one
words        the words of passages (FTS5)
vectors      a vector for each passage, fp16, of length 1
facts        the base and its digest, the settings of passages, the state

A document is written in one transaction with all that belongs to it: a process that is killed
leaves what was committed, and SQLite rolls back the rest. What is removed is overwritten in the
file, its words too (`tidy`).

Legend: M passages, F features.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError, DataError
from broadbase.index.database import APPLICATION, FACT, FORMAT, SCHEMA, connected, errors
from broadbase.index.passages import Passage

VARIABLES = 500  # of a statement
STATE, UNTIDY = "state", "untidy"  # facts: changes with every write; words are to be merged
WRITE = (  # documents, their passages, words and vectors
    "INSERT INTO documents VALUES (?, ?, ?, ?)",
    "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
    "INSERT INTO words (rowid, text) VALUES (?, ?)",
    "INSERT INTO vectors VALUES (?, ?)",
)
FORGET = (  # of a document, in this order
    "INSERT INTO words (words, rowid, text)"
    " SELECT 'delete', id, text FROM passages WHERE document = ?",
    "DELETE FROM vectors WHERE id IN (SELECT id FROM passages WHERE document = ?)",
    "DELETE FROM passages WHERE document = ?",
    "DELETE FROM documents WHERE id = ?",
)
READ = (
    "SELECT documents.origin, start, stop, text FROM passages"
    " JOIN documents ON documents.id = passages.document WHERE passages.id = ?"
)
MATCH = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?"  # by BM25

Vectors = NDArray[np.float32]


class Document(NamedTuple):
    """What is written of one document."""

    origin: str  # its name, which no other document has
    source: str  # what was read: the folder or table that it came from
    digest: str  # of its content
    passages: Sequence[Passage]


class Span(NamedTuple):
    """A passage as it is cited."""

    origin: str
    start: int | None  # of its first character in the document; None: the document as a unit
    stop: int | None  # after its last character
    text: str  # empty where the document is no text


@dataclass
class Store:
    """The file of an index, opened."""

    path: Path
    _connection: sqlite3.Connection

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, str]) -> Self:
        """Make an index without documents; ConfigError where the path exists."""
        if path.exists() and path.stat().st_size:
            raise ConfigError(f"{path} exists; give another path for a new index")
        with errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            store = cls(path, connected(path))
            with store._transaction():
                for statement in SCHEMA:
                    store._connection.execute(statement)
                store._connection.executemany(FACT, [*facts.items()])
        return store

    @classmethod
    def open(cls, path: Path, write: bool = False) -> Self:
        """Open an index; DataError where it is none.

        To write, ResourceError where the disk refuses, before any work.
        """
        if not path.is_file() or not path.stat().st_size:
            raise DataError(f"{path} is no index; `broadbase index DOCS --out {path}` makes one")
        with errors(path):
            store = cls(path, connected(path))
            marks = [store._one(f"PRAGMA {name}") for name in ("application_id", "user_version")]
            if marks[0] != APPLICATION:
                raise DataError(f"{path} is a database, and no index; give another file")
            if marks[1] != FORMAT:
                raise DataError(
                    f"{path} has format {marks[1]}, and this version of Broadbase reads format"
                    f" {FORMAT}; make the index again"
                )
        if write:
            store.tidy(check=True)
        return store

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def facts(self) -> dict[str, str]:
        """What the index says of itself."""
        with errors(self.path):
            return dict(self._connection.execute("SELECT name, value FROM facts"))

    @property
    def state(self) -> str:
        """A name for the content of the index: it changes with every write."""
        return self.facts.get(STATE, "")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let all that is read in this context be of one state."""
        with errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Return the number of documents and of passages."""
        with errors(self.path):
            documents, passages = (
                self._one(f"SELECT COUNT(*) FROM {table}") for table in ("documents", "passages")
            )
        return documents, passages

    def digests(self) -> dict[str, tuple[str, str]]:
        """Return the source and the digest of every document by its origin."""
        with errors(self.path):
            rows = self._connection.execute("SELECT origin, source, digest FROM documents")
            return {origin: (source, digest) for origin, source, digest in rows}

    def put(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """Write documents, in place of those of the same origin, in one transaction.

        `vectors` [M,F] are those of all their passages in order.
        """
        data = [row.tobytes() for row in np.ascontiguousarray(vectors, np.float16)]
        with self._transaction() as connection:
            self._forget([document.origin for document in documents])
            first, number = self._next("documents"), self._next("passages")
            rows = [(first + i, *document[:3]) for i, document in enumerate(documents)]
            parts = [(first + i, x) for i, each in enumerate(documents) for x in each.passages]
            passages = [(number + i, of, *passage) for i, (of, passage) in enumerate(parts)]
            words = [(number + i, passage.text) for i, (_, passage) in enumerate(parts)]
            numbered = [
                (number + i, blob) for i, (_, blob) in enumerate(zip(parts, data, strict=True))
            ]
            every: Any = (rows, passages, words, numbered)
            for statement, values in zip(WRITE, every, strict=True):
                connection.executemany(statement, values)
            connection.execute(FACT, (UNTIDY, ""))

    def remove(self, origins: Iterable[str]) -> int:
        """Remove documents in one transaction, and return how many there were."""
        with self._transaction():
            return self._forget([*dict.fromkeys(origins)])

    def tidy(self, check: bool = False) -> None:
        """Merge the words, so that those of what was removed are overwritten, if any were written.

        With `check` the disk is written to in any case, so that one that refuses is noticed.
        """
        with errors(self.path):
            untidy = UNTIDY in self.facts
            if not untidy and not check:
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM facts WHERE name = ?", (UNTIDY,))
            if untidy:
                self._connection.execute("INSERT INTO words (words) VALUES ('optimize')")
                self._connection.execute("COMMIT")
            else:
                self._connection.execute(FACT, (UNTIDY, ""))
                self._connection.execute("ROLLBACK")

    def vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Return the numbers of all passages [M] in order, and their vectors [M,F]."""
        with errors(self.path):
            rows = self._connection.execute("SELECT id, data FROM vectors ORDER BY id").fetchall()
        numbers = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        data = np.frombuffer(b"".join([row[1] for row in rows]), np.float16)
        return numbers, data.reshape(len(rows), -1 if len(rows) else 0)

    def spans(self, numbers: Iterable[int]) -> list[Span]:
        """Return passages by their numbers."""
        with errors(self.path):
            rows = [self._connection.execute(READ, (int(i),)).fetchone() for i in numbers]
        return [Span(*row) for row in rows]

    def matches(self, query: str, count: int) -> list[tuple[int, float]]:
        """Return the numbers of the passages that FTS5 ranks first for a query, with their BM25."""
        with errors(self.path):
            return self._connection.execute(MATCH, (query, count)).fetchall()

    def frequencies(self, least: int) -> dict[str, int]:
        """Return the terms of `words` that more than `least` passages have, with how many do."""
        with errors(self.path):
            rows = self._connection.execute("SELECT term, doc FROM terms WHERE doc > ?", (least,))
            return dict(rows.fetchall())

    def _forget(self, origins: Sequence[str]) -> int:
        """Remove those of the documents that are there, within a transaction; their number."""
        numbers = list[tuple[int]]()
        for i in range(0, len(origins), VARIABLES):
            some = origins[i : i + VARIABLES]
            listed = ", ".join("?" * len(some))
            statement = f"SELECT id FROM documents WHERE origin IN ({listed})"
            numbers += self._connection.execute(statement, some).fetchall()
        for statement in FORGET if numbers else ():
            self._connection.executemany(statement, numbers)
        if numbers:
            self._connection.execute(FACT, (UNTIDY, ""))
        return len(numbers)

    def _next(self, table: str) -> int:
        """Return the number of the next row of a table."""
        return int(self._one(f"SELECT COALESCE(MAX(id), 0) + 1 FROM {table}"))

    def _one(self, statement: str, *values: Any) -> Any:
        row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done in this context, with a new state; roll it back after an error."""
        with errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute(FACT, (STATE, uuid4().hex))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
