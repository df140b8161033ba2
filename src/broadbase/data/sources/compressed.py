"""Packed files: what they hold, once all of it is seen to be undamaged and not too much.

A damaged byte of a packed file turns up as any byte of what it holds; only the sum at its end
tells. So it is unpacked twice: to look, then to use.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, cast

import pyarrow as pa
from upath import UPath

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
RATIO = 250  # bytes that a byte of a packed file may hold; texts pack to a third or a tenth
SMALL = 64 << 20  # bytes that any may hold
STEP = 1 << 20
LIBRARIES: dict[str, Callable[[IO[bytes]], object]] = {"gzip": gzip.open, "xz": lzma.open}
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


@contextmanager
def opened(path: UPath) -> Iterator[IO[bytes]]:
    """Yield a file's bytes; .gz, .zst, .bz2 and .xz unpacked on the way.

    One of DAMAGED, or OSError, where a packed one is damaged, before any of it is given.
    """
    packed = path.suffix.lower() in COMPRESSED
    if packed:
        facts = path.stat()
        _check(path, facts.st_size, getattr(facts, "st_mtime_ns", 0))
    with path.open("rb") as raw, _unpacked(path, raw) if packed else raw as file:
        yield file


def _unpacked(path: UPath, raw: IO[bytes]) -> IO[bytes]:
    kind = COMPRESSED[path.suffix.lower()]
    if kind in LIBRARIES:
        return cast(IO[bytes], LIBRARIES[kind](raw))
    return io.BufferedReader(pa.CompressedInputStream(raw, kind))


@lru_cache(maxsize=1 << 12)
def _check(path: UPath, size: int, changed: int) -> None:  # noqa: ARG001
    """Unpack a file to its end, once a process as long as size and time of change stay."""
    unpacked = 0
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        while block := file.read(STEP):
            unpacked += len(block)
            set_limits(unpacked, size)


def set_limits(held: int, size: int) -> None:
    """Raise OSError where a file of `size` bytes holds more than files do."""
    if held > max(SMALL, RATIO * size):
        raise OSError(
            f"it holds more than {RATIO} times its {size:,} bytes: a decompression bomb? Unpack it"
        )


class Utf8:
    """A file of text in another encoding, read as UTF-8; a byte that it cannot hold is kept."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        """Decode `file` from `encoding`."""
        self.text = io.TextIOWrapper(file, encoding, "surrogateescape", newline="\n")

    def read(self, size: int = -1) -> bytes:
        """Return about `size` bytes; all, where it is below 0."""
        return self.text.read(size).encode("utf-8", "surrogateescape")

    def readline(self, size: int = -1) -> bytes:
        """Return a line, or about `size` bytes of it."""
        return self.text.readline(size).encode("utf-8", "surrogateescape")
