"""Search in an index: by words (BM25), by vectors (cosine), and by both together.

Each half is scaled by the least that it can be and the most that it is for a query, and a convex
combination of the two ranks the passages (Bruch et al. 2023, "An Analysis of Fusion Functions for
Hybrid Retrieval", 4.1).

Legend: M passages, F features.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError
from broadbase.index.store import Store, Vectors
from broadbase.index.vectors import Matrix, matrix

WEIGHT = 0.9  # of the cosine in the score; BM25 has the rest (bench/retrieval.py)
MATCHES = 1000  # passages that are ranked by BM25 at most
MATCHED = 5000  # passages that the words of a query may have together; commoner words are left out
WORD = re.compile(r"[^\W_]+")
Scores = NDArray[np.float32]  # [M]


class Hit(NamedTuple):
    """A passage that was retrieved, as it is cited."""

    origin: str
    start: int | None  # of its first character in the document; None: the document as a unit
    stop: int | None
    text: str
    score: float
    cosine: float | None  # None where no vector was given
    bm25: float | None  # None where no text was given

    @property
    def nearness(self) -> float:
        """The cosine, or BM25 without a vector: unlike the score it compares queries."""
        return next((x for x in (self.cosine, self.bm25) if x is not None), 0.0)

    @property
    def span(self) -> str:
        """The span as it is written; empty for a document as a unit."""
        return "" if self.start is None else f"{self.start}-{self.stop}"


@dataclass(frozen=True)
class Searcher:
    """An index with its vectors in memory."""

    store: Store
    matrix: Matrix

    @classmethod
    def of(cls, store: Store) -> Searcher:
        """Return a searcher of an index."""
        return cls(store, matrix(store))

    def search(
        self, text: str | None, vector: Vectors | None, k: int = 10, weight: float = WEIGHT
    ) -> list[Hit]:
        """Return the k best passages for the words of a text and a vector [F] of length 1.

        Either may be None. `weight` is the share of the cosine, from 0 to 1. ConfigError for a
        vector of another base's width.
        """
        lexical = None if text is None else self.lexical(text)
        cosines = None if vector is None else self.cosines(vector)
        scores = fused(lexical, cosines, weight)
        order = best(scores, k)
        spans = self.store.spans(self.matrix.numbers[torch.from_numpy(order)].tolist())
        halves = [
            [None if half is None else float(half[i]) for half in (cosines, lexical)] for i in order
        ]
        return [
            Hit(*span, float(scores[i]), *half)
            for i, span, half in zip(order, spans, halves, strict=True)
        ]

    def lexical(self, text: str) -> Scores:
        """Return the BM25 of passages for the words of a text, 0 without any of them: [M]."""
        scores = np.zeros(len(self.matrix.numbers), np.float32)
        if query := self._query(text):
            rows = self.store.matches(query, MATCHES)
            numbers = torch.tensor([number for number, _ in rows], dtype=torch.int64)
            scores[torch.searchsorted(self.matrix.numbers, numbers).numpy()] = [x for _, x in rows]
        return scores

    def cosines(self, vector: Vectors) -> Scores:
        """Return the cosine of passages with a vector [F] of length 1: [M]."""
        width = self.matrix.vectors.shape[1]
        if len(self.matrix.numbers) and vector.shape != (width,):
            raise ConfigError(
                f"a vector of {vector.shape} is compared with those of {width} numbers in"
                f" {self.store.path}; embed the query with the base of the index"
            )
        return self.matrix.cosines(torch.from_numpy(np.float32(vector))).numpy()

    def _query(self, text: str) -> str:
        """Return a text as a query of FTS5: any of its words, the rarest first.

        The commonest are left out, as far as the others have enough passages: BM25 hardly counts
        them, and they cost the most.
        """
        frequent, total, rare = self.matrix.frequent, 0, list[str]()
        words = dict.fromkeys(_folded(word) for word in WORD.findall(text))
        for word in sorted(words, key=lambda word: frequent.get(word, 0)):
            total += frequent.get(word, 0)
            if rare and total > MATCHED:
                break
            rare.append(word)
        return " OR ".join(f'"{word}"' for word in rare)


def fused(lexical: Scores | None, cosines: Scores | None, weight: float) -> Scores:
    """Return the scores of passages [M] from their BM25 and their cosines, from 0 to 1.

    BM25 is at least 0 and a cosine at least -1; the largest of each becomes 1.
    """
    if not 0 <= weight <= 1:
        raise ConfigError(f"the weight of the cosine is {weight:g}; give one from 0 to 1")
    halves = [
        (part, scaled(scores))
        for part, scores in (
            (1 - weight, lexical),
            (weight, None if cosines is None else cosines + 1),
        )
        if scores is not None
    ]
    if not halves:
        raise ConfigError("a query needs words or a vector")
    if len(halves) == 1:
        return halves[0][1]
    total: Scores = np.sum([part * scores for part, scores in halves], axis=0)
    return total


def best(scores: Scores, k: int) -> NDArray[np.int64]:
    """Return the passages of the k largest scores above 0, the largest first, then in order."""
    count = min(k, len(scores))
    some = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
    return np.array(sorted((i for i in some if scores[i] > 0), key=lambda i: (-scores[i], i)), int)


def scaled(scores: Scores) -> Scores:
    """Return scores of at least 0 divided by the largest."""
    most = scores.max(initial=0.0)
    return scores / most if most > 0 else scores


def _folded(word: str) -> str:
    """Return a word as FTS5 has it: in lower case, without marks."""
    plain = unicodedata.normalize("NFD", word.lower())
    return "".join(c for c in plain if not unicodedata.combining(c)) or word
