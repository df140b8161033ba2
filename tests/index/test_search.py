"""Search by words, by vectors and by both, each equal to its formula."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import ConfigError
from broadbase.index.search import Searcher, best, fused
from support.indexes import embed, index, vector

TEXTS = {
    "harbour": "the ship leaves the harbour at noon",
    "kitchen": "the cook leaves the kitchen",
    "café": "Le CAFÉ is near the harbour, the old harbour",
    "code": "def open_file(path): return path",
    "none": "",
}


@pytest.fixture
def searcher(tmp_path: Path) -> Searcher:
    return Searcher.of(index(tmp_path / "i", TEXTS))


def bm25(words: list[str]) -> list[float]:
    """Robertson's BM25 with k1 = 1.2 and b = 0.75, as FTS5 documents it."""
    rows = [Counter(text.lower().replace(",", "").split()) for text in TEXTS.values()]
    sizes = [row.total() for row in rows]
    scores = [0.0] * len(rows)
    for word in words:
        having = sum(word in row for row in rows)
        idf = max(math.log((len(rows) - having + 0.5) / (having + 0.5)), 1e-6)
        for i, row in enumerate(rows):
            length = 1.2 * (1 - 0.75 + 0.75 * sizes[i] / (sum(sizes) / len(sizes)))
            scores[i] += idf * row[word] * 2.2 / (row[word] + length)
    return scores


def test_words_are_scored_by_bm25(searcher: Searcher) -> None:
    del TEXTS["code"]  # whose words a split at spaces does not find
    try:
        expected = bm25(["harbour", "ship"])
    finally:
        TEXTS["code"] = "def open_file(path): return path"
    scores = searcher.lexical("Ship? harbour!")
    assert scores[3] == 0
    assert np.argsort(-scores[[0, 1, 2, 4]]).tolist() == np.argsort(-np.array(expected)).tolist()


@pytest.mark.parametrize(
    ("query", "origin"),
    [("cafe", "café"), ("KITCHEN", "kitchen"), ("open_file", "code"), ("the ship", "harbour")],
)
def test_words_match_without_case_and_marks(searcher: Searcher, query: str, origin: str) -> None:
    assert searcher.search(query, None, 1)[0].origin == origin


@pytest.mark.parametrize("query", ['"', "NEAR(", "a OR", "*", "text:", "-", "'; DROP TABLE x"])
def test_a_query_has_no_syntax(searcher: Searcher, query: str) -> None:
    searcher.search(query, None)
    assert len(searcher.search(query, vector("harbour"))) >= 1


def test_common_words_are_left_out_unless_there_are_no_others(searcher: Searcher) -> None:
    assert searcher._query("the ship") == '"the" OR "ship"'
    frequent = {"the": 9000, "of": 4000, "old": 2000}
    many = Searcher(searcher.store, searcher.matrix._replace(frequent=frequent))
    assert many._query("The ship of the old") == '"ship" OR "old"'
    assert many._query("the") == '"the"'


def test_frequent_words_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadbase.index.vectors.MANY", 2)
    store = index(tmp_path / "j", TEXTS)
    for _ in range(2):  # made, and then read
        assert Searcher.of(store).matrix.frequent == {"the": 3}


def test_vectors_are_compared_exactly(searcher: Searcher) -> None:
    cosines = searcher.cosines(vector("the old harbour"))
    expected = embed([*TEXTS.values()]) @ vector("the old harbour")
    np.testing.assert_allclose(cosines, expected, atol=1e-3)
    hits = searcher.search(None, vector("the old harbour"), 3)
    assert hits[0].origin == [*TEXTS][int(expected.argmax())]
    assert hits[0].cosine == pytest.approx(expected.max(), abs=1e-3)


def test_a_hit_cites_its_source_and_span(searcher: Searcher) -> None:
    (hit,) = searcher.search("cook", None)
    assert (hit.origin, hit.span, hit.text) == ("kitchen", "0-27", TEXTS["kitchen"])
    assert hit.cosine is None


SCORES = st.lists(st.floats(0, 10, width=32), min_size=1, max_size=20)


@given(SCORES, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_both_are_scaled_and_weighed(values: list[float], weight: float) -> None:
    lexical = np.array(values, np.float32)
    cosines = np.cos(np.arange(len(values), dtype=np.float32))
    expected = weight * (cosines + 1) / (cosines.max() + 1)
    if lexical.max() > 0:
        expected = expected + (1 - weight) * lexical / lexical.max()
    np.testing.assert_allclose(fused(lexical, cosines, weight), expected, rtol=1e-4, atol=1e-6)


def test_the_halves_are_the_ends_of_the_weight(searcher: Searcher) -> None:
    text, query = "harbour", vector("the cook leaves the kitchen")
    ends = [searcher.search(text, query, 3, weight)[0].origin for weight in (0.0, 1.0)]
    assert ends == [searcher.search(text, None, 1)[0].origin, "kitchen"]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=12), st.integers(1, 15))
@settings(max_examples=100, deadline=None)
def test_the_best_come_first_and_equal_ones_in_order(values: list[float], k: int) -> None:
    order = best(np.array(values, np.float32), k)
    expected = sorted((i for i, x in enumerate(values) if x > 0), key=lambda i: (-values[i], i))
    assert [values[i] for i in order] == [values[i] for i in expected[:k]]


def test_bad_queries_are_refused(searcher: Searcher) -> None:
    with pytest.raises(ConfigError, match="embed the query with the base of the index"):
        searcher.search(None, np.ones(3, np.float32))
    with pytest.raises(ConfigError, match="words or a vector"):
        searcher.search(None, None)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        searcher.search("a", None, 1, 1.5)
