"""What a broken promise raises, and what it is to be equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor


class BrokenPromiseError(AssertionError):
    """A promise of a contract that does not hold; the message says which, in one sentence."""


def promise(holds: bool, sentence: str) -> None:
    """Raise BrokenPromiseError with `sentence` unless it holds."""
    if not holds:
        raise BrokenPromiseError(sentence)


def same(one: Any, other: Any) -> bool:
    """Return whether two records, values or views are equal in every bit, at any depth."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        exact = a.dtype.kind == "f" and b.dtype.kind == "f"
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=exact))
    if is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in names
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
