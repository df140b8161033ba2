"""The vectors of records on disk, so that no command computes what another has computed.

CACHE/embeddings.sqlite    a row for each reading and record: what a base made of the record

A reading is all that a vector depends on but the record: the numbers of the base, its codecs, the
settings. SQLite makes the file safe for several processes, and for one that is killed. What cannot
be read or written is computed instead, and noted: the cache is never the reason of an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError
from broadbase.core.paths import cache_folder
from broadbase.inference.base import Base
from broadbase.weights.digest import base_digest

FILE, LIMIT = "embeddings.sqlite", "BROADBASE_CACHE_GB"
GIGABYTES = 2.0  # of the file at most, unless the variable LIMIT says otherwise
LARGEST = 1 << 20  # bytes of a vector that is kept
SHARE = 0.5  # of the limit that one process fills: a long stream does not drive out all else
SHRUNK = 0.9  # of the limit that is left when the vectors that were used least lately have gone
WAIT = 20.0  # seconds for another process to finish writing
SCHEMA = """
    CREATE TABLE IF NOT EXISTS vectors (
        reading TEXT, record TEXT, used REAL, checksum INTEGER, data BLOB,
        PRIMARY KEY (reading, record)
    );
    CREATE INDEX IF NOT EXISTS by_use ON vectors (used);
"""
GET = "SELECT checksum, data FROM vectors WHERE reading = ? AND record = ?"
USE = "UPDATE vectors SET used = ? WHERE reading = ? AND record = ?"
PUT = "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)"
COUNT = "SELECT COUNT(*), COUNT(DISTINCT reading) FROM vectors"
DROP = "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used LIMIT ?)"
Vectors = Mapping[str, NDArray[np.float32]]  # [F], by the digest of a record
Result = TypeVar("Result")


@dataclass
class VectorCache:
    """A file of vectors, bounded in size: those that were used least lately go first."""

    path: Path
    limit: int  # bytes
    wanted: int = 0  # vectors that were looked up
    hits: int = 0  # of these, those that were there
    notes: list[str] = field(default_factory=list)  # what went wrong, for the user
    _written: int = 0  # bytes, by this process

    def get(self, reading: str, records: Sequence[str]) -> Vectors:
        """Return the vectors [F] of those of the records that are here."""
        rows = dict[str, NDArray[np.float32]]()

        def work(connection: sqlite3.Connection) -> None:
            for record in records:
                if (row := connection.execute(GET, (reading, record)).fetchone()) is None:
                    continue
                checksum, data = row
                if isinstance(data, bytes) and zlib.crc32(data) == checksum:
                    rows[record] = np.frombuffer(data, np.float32)
                else:
                    self._note(f"an embedding in {self.path} is damaged, and is computed again")
            now = time.time()
            connection.executemany(USE, [(now, reading, record) for record in rows])

        self._try(work)
        self.wanted += len(records)
        self.hits += len(rows)
        return rows

    def put(self, reading: str, vectors: Vectors) -> None:
        """Keep vectors [F], as many as this process may."""
        rows, now, before = list[tuple[Any, ...]](), time.time(), self._written
        for record, vector in vectors.items():
            if vector.nbytes <= LARGEST and self._written + vector.nbytes <= SHARE * self.limit:
                data = np.ascontiguousarray(vector, np.float32).tobytes()
                rows.append((reading, record, now, zlib.crc32(data), data))
                self._written += len(data)

        def work(connection: sqlite3.Connection) -> None:
            _make_room(connection, self.limit - (self._written - before))
            connection.executemany(PUT, rows)

        if rows:
            self._try(work)

    def count(self) -> tuple[int, int, int]:
        """Return how many vectors and readings there are, and their bytes."""

        def work(connection: sqlite3.Connection) -> tuple[int, int, int]:
            vectors, readings = connection.execute(COUNT).fetchone()
            return vectors, readings, _size(connection)

        return (self._try(work) if self.path.exists() else None) or (0, 0, 0)

    def clear(self) -> None:
        """Remove all vectors; another process that reads them goes on."""
        for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            path.unlink(missing_ok=True)

    def _try(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do some work on the file in one transaction; None, and a note, where it fails.

        A file that is no database, or a damaged one, is removed.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self.path, timeout=WAIT, isolation_level="IMMEDIATE")
            ) as connection:
                connection.execute("PRAGMA synchronous = OFF")  # a loss of power may damage it
                connection.executescript(SCHEMA)
                with connection:
                    return work(connection)
        except (sqlite3.OperationalError, OSError) as error:  # locked, a full disk, no permission
            self._note(f"{self.path} cannot be used ({error}); embeddings are computed")
        except sqlite3.DatabaseError as error:
            self._note(f"{self.path} was damaged ({error}), and is begun again")
            self.clear()
        return None

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _make_room(connection: sqlite3.Connection, limit: float) -> None:
    """Remove the vectors that were used least lately until the others take `limit` bytes."""
    while (size := _size(connection)) > limit:
        (count,) = connection.execute("SELECT COUNT(*) FROM vectors").fetchone()
        if not count:
            return
        surplus = count * (1 - SHRUNK * max(0.0, limit) / size)
        connection.execute(DROP, (max(1, int(surplus)),))


def _size(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something."""
    pragmas = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {p}").fetchone()[0] for p in pragmas)
    return int((pages - free) * size)


def reading_of(base: Base, **settings: Any) -> str:
    """Compute a digest of all that the vectors of records depend on, but the records.

    These are the numbers of the base, its codecs, how it is used, the settings, and the program.
    """
    versions = [version(package) for package in ("broadbase", "torch")]
    devices = sorted({parameter.device.type for parameter in base.model.parameters()})
    plain = (base_digest(base), devices, settings, versions)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def opened(on: bool = True) -> VectorCache | None:
    """Return the user's cache; None where it is off.

    ConfigError where $BROADBASE_CACHE_GB, the size from which old vectors go, is no number.
    """
    value = os.environ.get(LIMIT) or str(GIGABYTES)
    try:
        limit = float(value) * 1e9
        if not 0 <= limit < 1e18:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{LIMIT}={value} is no number of gigabytes from 0 on; give 2, or 0 for no cache of"
            " embeddings"
        ) from None
    return VectorCache(cache_folder() / FILE, int(limit)) if on and limit else None


_current: ContextVar[VectorCache | None] = ContextVar("vector cache", default=None)


def current() -> VectorCache | None:
    """Return the cache that encoders use by default: that of `using`, and otherwise none."""
    return _current.get()


@contextmanager
def using(cache: VectorCache | None) -> Iterator[None]:
    """Let the encoders that are made in this context use a cache."""
    token = _current.set(cache)
    try:
        yield
    finally:
        _current.reset(token)
