"""How a base reads an index: vectors of its records, and whether the index is of this base.

Legend: M records, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broadbase.core.errors import ConfigError
from broadbase.index.store import Store, Vectors
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import beginning, max_tokens
from broadbase.weights.digest import base_digest

BASE, DIGEST, MODALITY, TOKENS = "base", "base_sha256", "modality", "tokens"  # facts of an index
LONGEST = 256  # tokens of a passage, by default


def unit(rows: Vectors) -> Vectors:
    """Return vectors [M,F] brought to length 1."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, np.finfo(np.float32).tiny), np.float32)


def unit_vectors(base: Base, modality: str, raws: Sequence[Any], done: Done = ignored) -> Vectors:
    """Return the mean of the last layer over the tokens of each record, of length 1: [M,F].

    It is that before the final norm. Of long records the beginning is read.
    """
    rows = beginning(base, modality).embed(raws, modality=modality, done=done)
    return unit(rows[:, -base.config.towers[base.tower(modality)].width :])


def facts_of(base: Base, name: str, modality: str, tokens: int | None = None) -> dict[str, str]:
    """Return what an index says of its base, which is loaded by `name`, and of its passages.

    ConfigError where passages are to have more `tokens` than the base reads.
    """
    most = max_tokens(base, modality)
    if tokens is not None and tokens > most:
        raise ConfigError(
            f"--tokens {tokens:,}: this base reads {most:,} tokens; give at most so many"
        )
    limit = min(LONGEST, most) if tokens is None else tokens
    return {BASE: name, DIGEST: base_digest(base), MODALITY: modality, TOKENS: str(limit)}


def must_be_of(store: Store, base: Base) -> None:
    """ConfigError where an index was made with another base."""
    facts = store.facts
    if facts[DIGEST] != base_digest(base):
        raise ConfigError(
            f"{store.path} is an index of another base, {facts[BASE]}, as it was when the index was"
            " made: vectors of two bases cannot be compared; give that base, or index again into"
            " another file"
        )
