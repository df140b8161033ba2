"""k nearest neighbours: what a base's vectors say as they are, with nothing learned on top."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

K = 20
TEMPERATURE = 0.07


class NearestClasses(KNeighborsClassifier):  # type: ignore[misc]
    """The classifier, with no more neighbours than there are records."""

    def fit(self, inputs: Any, labels: Any) -> Any:
        """Keep the records."""
        self.n_neighbors = min(K, len(labels))
        return super().fit(inputs, labels)


class NearestNumbers(KNeighborsRegressor):  # type: ignore[misc]
    """The regressor, with no more neighbours than there are records."""

    def fit(self, inputs: Any, labels: Any) -> Any:
        """Keep the records."""
        self.n_neighbors = min(K, len(labels))
        return super().fit(inputs, labels)


def nearest(kind: type) -> Any:
    """Return 20 neighbours by cosine, each weighted by exp(cosine / 0.07).

    The weights are those of Wu et al. 2018, 3.4, and DINO.
    """
    return kind(K, metric="cosine", weights=_votes)


def _votes(distance: NDArray[Any]) -> NDArray[Any]:
    """Turn cosine distances (1 - cosine) into votes; a constant factor changes no vote."""
    return np.exp(-distance / TEMPERATURE)
