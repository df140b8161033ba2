"""Packed files: what they hold, once all of it was seen to be whole and not too much.

A damaged byte of a packed file turns up as any byte of what it holds; only the sum at its end
tells. So it is unpacked twice: to look, then to use.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, cast

import pyarrow as pa
from upath import UPath

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
RATIO = 250  # bytes that a byte of a packed file may hold; texts pack to a third or a tenth
SMALL = 64 << 20  # bytes that any may hold
STEP = 1 << 20


@contextmanager
def opened(path: UPath) -> Iterator[IO[bytes]]:
    """A file's bytes; .gz, .zst and .bz2 unpacked on the way.

    OSError, EOFError or zlib.error where a packed one is damaged, before any of it is given.
    """
    packed = path.suffix in COMPRESSED
    if packed:
        facts = path.stat()
        _check(path, facts.st_size, getattr(facts, "st_mtime_ns", 0))
    with path.open("rb") as raw, _unpacked(path, raw) if packed else raw as file:
        yield file


def _unpacked(path: UPath, raw: IO[bytes]) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(raw))
    return io.BufferedReader(pa.CompressedInputStream(raw, COMPRESSED[path.suffix]))


@lru_cache(maxsize=1 << 12)
def _check(path: UPath, size: int, changed: int) -> None:  # noqa: ARG001
    """Once a process, as long as size and time of change stay."""
    found = 0
    with path.open("rb") as raw, _unpacked(path, raw) as file:
        while block := file.read(STEP):
            found += len(block)
            allow(found, size)


def allow(held: int, size: int) -> None:
    """OSError where a file of `size` bytes holds more than files do."""
    if held > max(SMALL, RATIO * size):
        raise OSError(
            f"it holds more than {RATIO} times its {size:,} bytes: a decompression bomb? Unpack it"
        )
