"""Vectors of pairs: what the vectors of two items say of both.

Legend: M pairs, F features, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPARED = " compared"  # after the name of a representation
COSINES = "cosines"  # as the name of one


def composed(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return [u, v, |u-v|, u*v] of vectors u, v [M,F] of length 1, [M,4F] (Conneau et al. 2017).

    The product is multiplied by the root of F, so that its length is about 1 too.
    """
    u, v = _unit(first), _unit(second)
    return np.concatenate([u, v, _compared(u, v)], axis=1)


def compared(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return [|u-v|, u*v], [M,2F]: the half that does not know which item is the first."""
    return _compared(_unit(first), _unit(second))


def cosines(first: NDArray[Any], second: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the cosine of two items in each of some layers [M,L*D], [M,L]."""
    u, v = (_unit(x.reshape(len(x), -1, width)) for x in (first, second))
    product: NDArray[Any] = (u * v).sum(axis=-1)
    return product


def representations(names: Iterable[str], last: str) -> tuple[str, ...]:
    """Name the representations of pairs, given those of items and the name of the last layer.

    They are the last layer, every one compared, and the cosines.
    """
    return (last, *(name + COMPARED for name in names), COSINES)


def _compared(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([np.abs(u - v), u * v * np.sqrt(u.shape[1]).astype(u.dtype)], axis=1)


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[Any] = vectors / np.maximum(lengths, 1e-12)
    return unit
