"""k nearest neighbours: what a base's vectors say as they are, with nothing learned on top."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from broadbase.transfer.task import Task

K = 20
TEMPERATURE = 0.07


def nearest(task: Task) -> Any:
    """By cosine, 20 neighbours, each counted as exp(cosine / 0.07) (Wu et al. 2018, 3.4; DINO)."""
    kind = KNeighborsClassifier if task.classes else KNeighborsRegressor
    return kind(K, metric="cosine", weights=_votes)


def _votes(distance: NDArray[Any]) -> NDArray[Any]:
    """A cosine distance is 1 - cosine; a constant factor changes no vote."""
    return np.exp(-distance / TEMPERATURE)
