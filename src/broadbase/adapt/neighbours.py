"""k nearest neighbours: what a base's vectors say as they are, with nothing learned on top."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.class_weight import compute_class_weight

K = 20
TEMPERATURE = 0.07


class NearestClasses(KNeighborsClassifier):  # type: ignore[misc]
    """The classifier with no more neighbours than records, whose votes count by their class."""

    class_weight: Any = None

    def fit(self, inputs: Any, labels: Any) -> Any:
        """Keep the records."""
        self.n_neighbors = min(K, len(labels))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes is greater")
            super().fit(inputs, labels)
        self.votes_ = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        return self

    def predict_proba(self, inputs: Any) -> NDArray[np.float64]:
        """Return the share of each class in the votes, [M,K]."""
        votes: NDArray[np.float64] = super().predict_proba(inputs)
        if self.class_weight is None:
            return votes
        return normalize(votes * self.votes_, norm="l1")  # type: ignore[no-any-return]


class NearestNumbers(KNeighborsRegressor):  # type: ignore[misc]
    """The regressor, with no more neighbours than there are records."""

    def fit(self, inputs: Any, labels: Any) -> Any:
        """Keep the records."""
        self.n_neighbors = min(K, len(labels))
        return super().fit(inputs, labels)


class NearestTexts(NearestNeighbors):  # type: ignore[misc]
    """The text of the nearest record alone, by cosine."""

    def __init__(self) -> None:
        """Look for one neighbour."""
        super().__init__(n_neighbors=1, metric="cosine")

    def fit(self, inputs: Any, labels: Any) -> Any:
        """Keep the records and their texts."""
        self.texts_ = labels
        return super().fit(inputs)

    def predict(self, inputs: Any) -> Any:
        """Return the text of the nearest record of each input."""
        return self.texts_[self.kneighbors(inputs, return_distance=False)[:, 0]]


def nearest(kind: type, class_weight: Any = None) -> Any:
    """Return 20 neighbours by cosine, each weighted by exp(cosine / 0.07).

    The weights are those of Wu et al. 2018, 3.4, and DINO.
    """
    model = kind(K, metric="cosine", weights=_votes)
    model.class_weight = class_weight
    return model


def _votes(distance: NDArray[Any]) -> NDArray[Any]:
    """Turn cosine distances (1 - cosine) into votes; a constant factor changes no vote."""
    return np.exp(-distance / TEMPERATURE)
