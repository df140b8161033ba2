"""The identity of documents: the hash of their content, of their key or of their group."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from broadbase.core.sources import Record

STEP = 1 << 20  # characters that are hashed at once


def digest_of(raw: Any) -> bytes:
    """Return the SHA-256 of a record's content."""
    if isinstance(raw, str):
        digest = hashlib.sha256()
        for i in range(0, len(raw), STEP):  # a copy of a long one would take as much memory again
            digest.update(raw[i : i + STEP].encode(errors="surrogatepass"))
        return digest.digest()
    data = raw if isinstance(raw, bytes) else np.ascontiguousarray(np.asarray(raw)).tobytes()
    return hashlib.sha256(data).digest()


def identity(record: Record, raw: Any, paired: bool) -> bytes:
    """Return a document's id, 16 bytes: of its content, or of its key where it is one of a pair.

    The first half, which decides the side of the split, is its group's where it has one.
    """
    key = record.key or record.origin
    own = digest_of(key) if paired else digest_of(raw)
    return (digest_of(record.group)[:8] if record.group else own[:8]) + own[8:16]


def size_of(raw: Any) -> int:
    """Return about how many bytes a record's content takes."""
    return len(raw) if isinstance(raw, str | bytes) else np.asarray(raw).nbytes
