"""Splits of labelled records into few to learn from and others to test on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

Indices = NDArray[np.int64]


def cut(items: Indices, strata: Indices, first: int, second: int, seed: int) -> list[Indices]:
    """`first` and `second` of the items at random, strata in proportion where these allow it.

    Strata of one member count as one stratum together.
    """
    strata = _merged(strata)
    counts = np.unique(strata, return_counts=True)[1]
    if min(first, second) >= len(counts) and counts.min() > 1:
        kept = StratifiedShuffleSplit(1, train_size=first, test_size=second, random_state=seed)
        return [items[part] for part in next(kept.split(items, strata))]
    order = np.random.default_rng(seed).permutation(items)
    return [order[:first], order[first : first + second]]


def cut_groups(strata: Indices, groups: Indices, test: int, seed: int) -> list[Indices]:
    """Two thirds of the items, and up to `test` of the others; no group has items in both.

    ValueError where the groups are too few or too large for that.
    """
    rng, count = np.random.default_rng(seed), len(np.unique(groups))
    if count < 2:
        raise ValueError("all of its records are equal, or of one group")
    splitter = StratifiedGroupKFold(min(3, count), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strata with fewer items than folds
        folds = list(splitter.split(np.arange(len(strata)), strata, groups))
    pool, held = folds[rng.integers(len(folds))]  # the first always holds the largest group
    return [pool, rng.permutation(held)[:test]]


def joined(*keys: NDArray[Any]) -> Indices:
    """Return the number of every item's group: items that are equal in any key are in one group,
    and so are items that other items connect."""
    size = len(keys[0])
    edges, nodes = [], size
    for key in keys:
        values, at = np.unique(key, return_inverse=True)
        edges.append(np.stack([np.arange(size), nodes + at]))
        nodes += len(values)
    rows, columns = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(nodes, nodes))
    group: Indices = connected_components(graph, directed=False)[1][:size]
    return group


def _merged(strata: Indices) -> Indices:
    kinds, at, counts = np.unique(strata, return_inverse=True, return_counts=True)
    alone = counts[at] == 1
    if alone.any():
        at[alone] = len(kinds) if alone.sum() > 1 else counts.argmax()
    return at
