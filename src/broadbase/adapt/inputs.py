"""Records that something is predicted of, pairs among them, and the digest of their content.

Legend: M records, or tokens where tokens are predicted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broadbase.adapt.splits import Indices
from broadbase.core.sources import Pair, parts


@dataclass(frozen=True)
class Inputs:
    """Records to predict something of, or tokens of them."""

    raws: Sequence[Any]
    tokens: Indices | None = None  # [M,2]: the number of a token's record, and its position there
    per_token: bool = False  # whether tokens are predicted; without `tokens` all of every record

    @property
    def used(self) -> Indices:
        """The numbers of the records that are read."""
        return np.arange(len(self.raws)) if self.tokens is None else np.unique(self.tokens[:, 0])

    @property
    def paired(self) -> bool:
        """Whether the records are pairs."""
        return len(self.raws) > 0 and isinstance(self.raws[0], Pair)

    @property
    def items(self) -> Inputs:
        """The first items of all pairs, and then the second; other records as they are."""
        if not self.paired:
            return self
        return Inputs([pair[i] for i in range(2) for pair in self.raws])


def content(raw: Any) -> str:
    """Compute a digest of a record's content: equal for equal records."""
    return hashlib.sha256(_bytes(raw)).hexdigest()


def unordered(raw: Any) -> str:
    """Compute a digest that is also equal for pairs of the same items in the other order."""
    return "".join(sorted(map(content, parts(raw))))


def _bytes(raw: Any) -> bytes:
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, str):
        return raw.encode(errors="surrogatepass")
    if isinstance(raw, tuple):
        return b"".join(hashlib.sha256(_bytes(part)).digest() for part in raw)
    if isinstance(raw, Mapping):
        return repr(sorted(raw.items(), key=repr)).encode()
    array = np.asarray(raw)
    data = repr(raw).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
    return f"{getattr(raw, 'mode', '')}{array.dtype}{array.shape}".encode() + data
