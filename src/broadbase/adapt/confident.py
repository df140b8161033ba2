"""Confident learning: which labels are wrong, by probabilities of models that did not see them.

Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels".

Legend: M records, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def counted_wrong(labels: NDArray[np.int64], chances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which records are off the diagonal of the confident joint, [M].

    A record [M] may be of each class whose probability [M,K] reaches its threshold, the mean
    probability of the class over the records with that label; it counts as one of the likeliest of
    these. Its label is wrong where that is another class, and so is the likeliest of all. A class
    that no label has is none.
    """
    classes = chances.shape[1]
    sums = np.bincount(labels, chances[np.arange(len(labels)), labels], minlength=classes)
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = chances >= thresholds
    likeliest = np.where(confident, chances, -1).argmax(axis=1)
    elsewhere = (likeliest != labels) & (chances.argmax(axis=1) != labels)
    wrong: NDArray[np.bool_] = confident.any(axis=1) & elsewhere
    return wrong
