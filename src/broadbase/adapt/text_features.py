"""Hand-made features of texts by words, and what an unlabelled pool makes of them.

They get the same pool as the methods that they are held against (`Task.unlabelled`), and the same
linear model or the same centroids. They join the features of characters (`features.BASELINES`).

Legend: M texts, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from broadbase.adapt.centroids import ROUNDS, WEIGHT, class_centroids
from broadbase.adapt.features import Baselines, raw_records
from broadbase.adapt.task import Task

TOPICS = 100  # components of latent semantic analysis (Deerwester et al. 1990)
WORD = r"(?u)\b\w+\b"


class Latent(BaseEstimator):  # type: ignore[misc]
    """Latent semantic analysis of TF-IDF of words, fitted on labelled texts and the pool."""

    def __init__(self, pool: Sequence[str]) -> None:
        """Take texts without labels."""
        self.pool = pool

    def fit(self, texts: Sequence[str], labels: Any = None) -> Self:
        """Fit vocabulary, weights and components; labels are not looked at."""
        self.words_, self.svd_ = _analysed(tuple(sorted([*texts, *self.pool])))
        return self

    def transform(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return vectors of length 1, [M,F]."""
        topics: NDArray[np.float64] = self.svd_.transform(self.words_.transform(texts))
        vectors: NDArray[np.float64] = normalize(topics)
        return vectors


class LatentCentroids(BaseEstimator):  # type: ignore[misc]
    """Class centroids of these vectors, refined with the pool as the method `centroids` does."""

    def __init__(self, pool: Sequence[str]) -> None:
        """Take texts without labels."""
        self.pool = pool

    def fit(self, texts: Sequence[str], labels: NDArray[np.int64]) -> Self:
        """Compute the centroids."""
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.latent_ = Latent(self.pool).fit(texts)
        labelled = self.latent_.transform(texts)
        pool = self.latent_.transform(self.pool) if len(self.pool) else labelled[:0]
        self.centroids_, self.centre_ = class_centroids(
            labelled, codes, pool, len(self.classes_), ROUNDS, WEIGHT
        )
        return self

    def decision_function(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the cosine with each centroid, up to the length of the centred text, [M,K]."""
        result: NDArray[np.float64] = (
            self.latent_.transform(texts) - self.centre_
        ) @ self.centroids_.T
        return result


@lru_cache(maxsize=1)
def _analysed(texts: tuple[str, ...]) -> tuple[TfidfVectorizer, TruncatedSVD]:
    """Return weights of words and the components of some texts.

    The last are kept: features of one split share them, whichever of its texts have labels.
    """
    words = _word_weights()
    weights = words.fit_transform(texts)
    return words, TruncatedSVD(min(TOPICS, min(weights.shape) - 1), random_state=0).fit(weights)


def _word_weights() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)


def _words(task: Task) -> Pipeline:
    return make_pipeline(_word_weights(), task.target.ridge())


def _topics(task: Task) -> Pipeline:
    return make_pipeline(Latent(list(task.unlabelled)), StandardScaler(), task.target.ridge())


def _topic_centroids(task: Task) -> Pipeline:
    return make_pipeline(LatentCentroids(list(task.unlabelled)))


WORDS: Baselines = {
    modality: {
        "TF-IDF of words": (raw_records, _words),
        "LSA with the pool": (raw_records, _topics),
    }
    for modality in ("text", "code", "bytes")
}
POOLED_CENTROIDS: Baselines = {  # of classes
    modality: {"LSA centroids with the pool": (raw_records, _topic_centroids)}
    for modality in ("text", "code", "bytes")
}
