"""Duplicates: which documents are the same or nearly so, over all shards at once.

Candidates share all minima of at least one band of their sketches (Leskovec et al. 2020, 3.4: with
21 bands of 6, a pair of similarity 0.8 is a candidate with probability 0.998, one of 0.4 with
0.08); the share of equal minima of a candidate pair then decides.

Legend: N documents, P candidate pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from broadbase.data.store.sketches import NONE, SKETCH

BAND = 6
CHECK = 1 << 14  # pairs compared at once

Ints = NDArray[np.int64]


def clusters(
    ids: NDArray[np.uint8], sketches: Sequence[NDArray[np.uint32]], similarity: float
) -> tuple[Ints, Ints]:
    """Return clusters of documents that are equal, or whose estimated similarity reaches a bar.

    ids [N,16]; sketches, shard by shard, together [N,SKETCH]. Returns two arrays [N]: the first
    document of each one's cluster, and the first that is *exactly* the same.
    """
    n = len(ids)
    keys = np.ascontiguousarray(ids).view("V16").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    exact = first[inverse]
    pairs = [np.stack([exact, np.arange(n)], axis=1)]
    if similarity < 1 and sketches:
        some = _candidates(sketches, exact == np.arange(n))
        pairs.append(some[estimates(some, sketches) >= similarity])
    edges = np.concatenate(pairs)
    graph = coo_array((np.ones(len(edges), dtype=bool), edges.T), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    heads = np.full(int(label.max(initial=-1)) + 1, n)
    np.minimum.at(heads, label, np.arange(n))
    return heads[label], exact


def estimates(pairs_P2: Ints, sketches: Sequence[NDArray[np.uint32]]) -> NDArray[np.float64]:
    """Return the share of equal minima of each pair: [P]; its deviation is below 0.045."""
    shares = np.empty(len(pairs_P2))
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sketches])])
    for i in range(0, len(pairs_P2), CHECK):
        some = pairs_P2[i : i + CHECK]
        one, other = (_rows(some[:, side], sketches, starts) for side in (0, 1))
        shares[i : i + CHECK] = (one == other).mean(axis=1)
    return shares


def _candidates(sketches: Sequence[NDArray[np.uint32]], some: NDArray[np.bool_]) -> Ints:
    """Return pairs [P,2] of the chosen documents that share a band, each once."""
    n, pair_keys = len(some), [np.zeros(0, np.int64)]
    for first in range(0, SKETCH, BAND):
        hashed = np.concatenate([_hash(s[:, first : first + BAND]) for s in sketches])
        chosen = np.flatnonzero(some & (hashed != 0))
        order = chosen[np.argsort(hashed[chosen], kind="stable")]
        same = np.flatnonzero(hashed[order][1:] == hashed[order][:-1])
        starts = np.flatnonzero(np.diff(same, prepend=-2) > 1)  # of runs of equal hashes
        heads = same[starts[np.cumsum(np.diff(same, prepend=-2) > 1) - 1]]
        for one in (same, heads):  # with the one before, and with the first of its bucket
            pair_keys.append(order[one] * n + order[same + 1])
    keys = np.unique(np.concatenate(pair_keys))
    return np.stack([keys // n, keys % n], axis=1)


def _hash(band: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return one number of the minima of a band; 0 where the document has no pieces."""
    hashed = np.full(len(band), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in band.T:
        hashed = (hashed ^ column) * np.uint64(0x100000001B3)
        hashed ^= hashed >> np.uint64(29)
    return np.where((band == NONE).all(axis=1), 0, hashed | np.uint64(1))


def _rows(
    numbers: Ints, sketches: Sequence[NDArray[np.uint32]], starts: Ints
) -> NDArray[np.uint32]:
    sketched = np.empty((len(numbers), SKETCH), dtype=np.uint32)
    shard = np.searchsorted(starts, numbers, side="right") - 1
    for i in np.unique(shard):
        inside = shard == i
        sketched[inside] = sketches[i][numbers[inside] - starts[i]]
    return sketched
