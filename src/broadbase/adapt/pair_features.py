"""Hand-made features of pairs: of texts both, their difference and product, and their overlap.

Legend: M pairs, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.adapt.features import BASELINES, TEXTS, Baselines, characters, raw_records
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.pairs import composed
from broadbase.adapt.task import Task
from broadbase.core.sources import Pair

Make = Callable[[], TfidfVectorizer]
Features = Callable[[Task], NDArray[Any]]


def words() -> TfidfVectorizer:
    """Return TF-IDF of single words, one letter long or more."""
    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")


class Both(BaseEstimator):  # type: ignore[misc]
    """The weights u and v of both texts, |u-v| and u*v, sparse [M,4F]."""

    def __init__(self, make: Make) -> None:
        """Take what makes the weights."""
        self.make = make

    def fit(self, pairs: Sequence[Pair], labels: Any = None) -> Self:
        """Fit the vocabulary and its weights on all items; labels are not looked at."""
        self.weights_ = self.make().fit([text for pair in pairs for text in pair])
        return self

    def transform(self, pairs: Sequence[Pair]) -> csr_array:
        """Return the features."""
        u, v = (self.weights_.transform([pair[i] for pair in pairs]) for i in range(2))
        return hstack([u, v, abs(u - v), u.multiply(v)], format="csr")


class Overlap(BaseEstimator):  # type: ignore[misc]
    """How much two texts have in common, and how long they are, [M,9]."""

    def fit(self, pairs: Sequence[Pair], labels: Any = None) -> Self:
        """Fit the weights of characters and words on all items; labels are not looked at."""
        texts = [text for pair in pairs for text in pair]
        self.weights_ = [make().fit(texts) for make in (characters, words)]
        return self

    def transform(self, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        """Return cosines by characters and by words, shares of common words, and lengths."""
        columns = []
        for weights in self.weights_:
            u, v = (weights.transform([pair[i] for pair in pairs]) for i in range(2))
            columns.append(np.asarray(u.multiply(v).sum(axis=1)).ravel())
        counts = np.array([_common(pair) for pair in pairs], dtype=np.float64)
        return np.column_stack([*columns, counts])


def _common(pair: Pair) -> list[float]:
    """Return shares of common words of all, of the first and of the second, and lengths."""
    a, b = (set(text.casefold().split()) for text in pair)
    both = len(a & b)
    lengths = [float(np.log1p(len(text))) for text in pair]
    shares = [both / max(1, len(each)) for each in (a | b, a, b)]
    return [*shares, float(both), *lengths, lengths[0] - lengths[1]]


def _characters_of_both(task: Task) -> Pipeline:
    return make_pipeline(Both(characters), task.target.ridge())


def _words_of_both(task: Task) -> Pipeline:
    return make_pipeline(Both(words), task.target.ridge())


def _overlap(task: Task) -> Pipeline:
    return make_pipeline(Overlap(), StandardScaler(), task.target.ridge())


def _of_both(inputs: Features) -> Features:
    """Return the features of pairs that are composed of those of their items."""

    def features(task: Task) -> NDArray[Any]:
        items = inputs(replace(task, raws=Inputs(task.raws).items.raws))
        return composed(*np.split(items, 2))

    return features


STRINGS = {"TF-IDF of characters of both": (raw_records, _characters_of_both)}
OF_TEXTS = {
    **STRINGS,
    "TF-IDF of words of both": (raw_records, _words_of_both),
    "overlap": (raw_records, _overlap),
}


def _of_items(table: Mapping[str, tuple[Features, Callable[[Task], Pipeline]]]) -> Any:
    """Return the baselines of pairs, given those of their items: strings have others."""
    vectors = {n: each for n, each in table.items() if each[0] is not raw_records}
    made = {f"{name} of both": (_of_both(each), model) for name, (each, model) in vectors.items()}
    return made | (STRINGS if len(vectors) < len(table) else {})


PAIRS: Baselines = {
    **{modality: _of_items(table) for modality, table in BASELINES.items()},
    **dict.fromkeys(TEXTS, OF_TEXTS),
}
