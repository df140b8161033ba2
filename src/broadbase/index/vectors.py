"""The vectors of an index as one array: a file next to it that is mapped into memory.

FILE.vectors    safetensors: `numbers` [M] of the passages, `vectors` [M,F], the state of FILE, and
                the words of many passages, with the number of these

It is made from FILE, again wherever the states differ, and can be removed at any time. Where it
cannot be written, the vectors are read into memory.

Legend: M passages, F features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from broadbase.core.errors import BroadbaseError
from broadbase.core.files import draft_file
from broadbase.index.store import STATE, Store

ENDING, FREQUENT = ".vectors", "frequent"
MANY = 1000  # passages that a frequent word has at least


class Matrix(NamedTuple):
    """The vectors of all passages, and how many have each of the frequent words."""

    numbers: Tensor  # [M]
    vectors: Tensor  # [M,F], of length 1
    frequent: Mapping[str, int]

    def cosines(self, vector: Tensor) -> Tensor:
        """Return the cosine of every passage with a vector [F] of length 1: [M], exactly."""
        return self.vectors @ vector if len(self.vectors) else self.vectors.new_zeros(0)


def copy_of(path: Path) -> Path:
    """Return the path of the array next to an index."""
    return path.with_name(path.name + ENDING)


def matrix(store: Store) -> Matrix:
    """Return the vectors of an index, mapped into memory where the disk allows."""
    path = copy_of(store.path)
    with store.reading():
        state = store.state
        if (mapped := _mapped(path, state)) is not None:
            return mapped
        numbers, vectors = store.vectors()
        frequent = store.frequencies(MANY)
    made = Matrix(torch.from_numpy(numbers), torch.from_numpy(vectors.astype(np.float32)), frequent)
    with suppress(BroadbaseError):
        with draft_file(path) as draft:
            tensors = {"numbers": made.numbers, "vectors": made.vectors}
            save_file(tensors, draft, {STATE: state, FREQUENT: json.dumps(frequent)})
        return _mapped(path, state) or made
    return made


def discard(path: Path) -> None:
    """Remove the array of an index, before what it holds is removed there; OSError if it stays."""
    copy_of(path).unlink(missing_ok=True)


def _mapped(path: Path, state: str) -> Matrix | None:
    """Return the array if it is that of a state."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get(STATE) != state:
                return None
            numbers, vectors = (file.get_tensor(name) for name in ("numbers", "vectors"))
            return Matrix(numbers, vectors, json.loads(facts[FREQUENT]))
    except (OSError, SafetensorError):
        return None
