"""The SQLite database of an index: its tables, what marks its file, and its errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broadbase.core.errors import BroadbaseError, DataError, ResourceError

APPLICATION, FORMAT = 0x42424958, 1  # what marks the file as an index, and its version
WAIT = 20.0  # seconds for another process to finish writing
CACHE, PAGE = 64, 16384  # mebibytes of pages in memory; bytes of a page
SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "CREATE TABLE documents (id INTEGER PRIMARY KEY, origin TEXT UNIQUE, source TEXT, digest TEXT)",
    "CREATE TABLE passages (id INTEGER PRIMARY KEY, document INTEGER, start INTEGER, stop INTEGER,"
    " text TEXT)",
    "CREATE INDEX passages_of ON passages (document)",
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY, data BLOB)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, content='passages', content_rowid='id')",
    "INSERT INTO words (words, rank) VALUES ('automerge', 16)",  # `Store.tidy` merges the rest
    "CREATE VIRTUAL TABLE terms USING fts5vocab (words, 'row')",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)
FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"


def is_index(path: Path) -> bool:
    """Return whether a file is an index, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(72)
    return head[:15] == b"SQLite format 3" and head[68:] == APPLICATION.to_bytes(4, "big")


def connected(path: Path) -> sqlite3.Connection:
    """Connect to a database whose deleted content is overwritten with zeros."""
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    pragmas = (f"page_size = {PAGE}", "secure_delete = ON", f"cache_size = -{CACHE * 1024}")
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into ones that name the file."""
    try:
        yield
    except BroadbaseError:
        raise
    except (sqlite3.OperationalError, OSError) as error:  # full or read-only disk, locked
        raise ResourceError(
            f"{path} cannot be used: {error}; free space or permissions for the file and its"
            " folder, or wait for the process that writes to it"
        ) from None
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is no index, or is damaged: {error}; make it again") from None
