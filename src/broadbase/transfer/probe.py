"""The frozen probe: a linear classifier on a base's vectors; the base itself does not move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.transfer.task import Indices, Task


def probe(
    vectors: NDArray[np.float32], task: Task, train: Indices, test: Indices
) -> NDArray[np.bool_]:
    """Which test records are classified right, learned from `train`: [len(test)].

    Standardised vectors [M,D], ridge regression on the classes; its penalty is chosen by
    leave-one-out error on the training records alone.
    """
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-1, 6, 15)))
    classifier.fit(vectors[train], task.labels[train])
    right: NDArray[np.bool_] = classifier.predict(vectors[test]) == task.labels[test]
    return right
