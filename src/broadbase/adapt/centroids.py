"""Centroids of classes on the unit sphere, refined with records that have no label.

Legend: M labelled and U unlabelled records, F features, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.target import Labels

SHARPNESS = 20.0  # logits per cosine
ROUNDS, WEIGHT = 5, 0.3  # chosen on tasks that are not measured: kinds of toxicity, docstrings

Rows = NDArray[np.float64]


def class_centroids(
    labelled: Rows, labels: Labels, pool: Rows, classes: int, rounds: int, weight: float
) -> tuple[Rows, Rows]:
    """Return a centroid of length 1 for each class [K,F], and the centre [F] that they are from.

    Rows are brought to length 1, and their mean, the centre, is taken away. In each of the rounds
    the pool [U,F] is assigned to the centroids by shares, and they are computed anew from the
    labelled [M,F], which count 1, and the pool, which counts `weight`. A class without a labelled
    record stays at 0. This is seeded k-means (Basu et al. 2002) on the sphere, with soft shares.
    """
    rows = _unit(np.concatenate([labelled, pool]))
    centre = rows.mean(axis=0)
    rows = _unit(rows - centre)
    labelled, pool = rows[: len(labelled)], rows[len(labelled) :]
    sums = np.eye(classes)[labels].T @ labelled
    present = np.bincount(labels, minlength=classes) > 0
    centroids: Rows = _unit(sums)
    for _ in range(rounds if len(pool) else 0):
        cosines = np.where(present, pool @ centroids.T, -np.inf)
        shares = np.exp(SHARPNESS * (cosines - cosines.max(axis=1, keepdims=True)))
        shares /= shares.sum(axis=1, keepdims=True)
        centroids = _unit(sums + weight * shares.T @ pool)
    return centroids, centre


def _unit(rows: Rows) -> Rows:
    """Return rows of length 1; rows of 0 stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    units: Rows = rows / np.where(lengths == 0, 1.0, lengths)
    return units
