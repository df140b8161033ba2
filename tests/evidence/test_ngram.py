"""The n-gram yardstick against the paper's formulas, hand-worked figures and a known source."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from broadbase.evidence.ngram import FALLBACK, KneserNey

Gram = tuple[int, ...]
Corpus = list[NDArray[np.int64]]


def corpus(*rows: list[int]) -> Corpus:
    return [np.array(row, dtype=np.int64) for row in rows]


class Slow:
    """Chen & Goodman 1998, section 3, word by word: dictionaries, sets and recursion."""

    def __init__(self, rows: list[list[int]], order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        raw: Counter[Gram] = Counter()
        openings: Counter[Gram] = Counter()
        lefts: defaultdict[Gram, set[int]] = defaultdict(set)
        for row in rows:
            for end in range(1, len(row)):  # the place of the token predicted
                for start in range(end + 1):
                    gram = tuple(row[start : end + 1])
                    raw[gram] += 1
                    if start == 0:
                        openings[gram] += 1
                    else:
                        lefts[gram].add(row[start - 1])
        self.count = {
            g: raw[g] if len(g) == order else len(lefts[g]) + openings[g]
            for g in raw
            if len(g) <= order
        }
        self.after: defaultdict[Gram, list[int]] = defaultdict(list)
        for gram, count in self.count.items():
            self.after[gram[:-1]].append(count)
        self.discount = {k: self.closed_form(k) for k in range(1, order + 1)}

    def closed_form(self, k: int) -> tuple[float, float, float]:
        of = Counter(count for gram, count in self.count.items() if len(gram) == k)
        n1, n2, n3, n4 = of[1], of[2], of[3], of[4]
        if n1 == 0 or n2 == 0 or n3 == 0:
            return FALLBACK
        y = n1 / (n1 + 2 * n2)
        d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        good = 0 < d[0] <= 1 and 0 < d[1] <= 2 and 0 < d[2] <= 3
        return d if good else FALLBACK

    def probability(self, context: Gram, token: int) -> float:
        k = len(context) + 1
        below = self.probability(context[1:], token) if context else 1 / self.vocabulary
        counts = self.after.get(context)
        if counts is None:
            return below
        d1, d2, d3 = self.discount[k]
        count = self.count.get((*context, token), 0)
        taken = 0.0 if count == 0 else (d1, d2, d3)[min(count, 3) - 1]
        gamma = d1 * counts.count(1) + d2 * counts.count(2) + d3 * sum(c >= 3 for c in counts)
        return (count - taken + gamma * below) / sum(counts)

    def logprob(self, row: list[int]) -> list[float]:
        reach = self.order - 1
        return [
            math.log(self.probability(tuple(row[max(0, i - reach) : i]), row[i]))
            for i in range(1, len(row))
        ]


def draw_rows(seed: int, vocabulary: int, longest: int, rows: int) -> list[list[int]]:
    """Rows of uneven length and Zipf-like ids, so that all counts of counts occur."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    lengths = rng.integers(1, longest + 1, rows)
    return [rng.choice(vocabulary, n, p=weights / weights.sum()).tolist() for n in lengths]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("start_symbol", [False, True])
@pytest.mark.parametrize(("seed", "vocabulary", "rows"), [(0, 5, 8), (1, 30, 60), (2, 200, 150)])
def test_equals_the_papers_formulas(
    order: int, start_symbol: bool, seed: int, vocabulary: int, rows: int
) -> None:
    drawn = draw_rows(seed, vocabulary, 25, 2 * rows)
    if start_symbol:
        drawn = [[vocabulary, *row] for row in drawn]
        vocabulary += 1
    train, held_out = drawn[:rows], drawn[rows:]
    slow = Slow(train, order, vocabulary)
    fast = KneserNey.fit(corpus(*train), order, vocabulary)
    wanted = [slow.discount[k] for k in range(1, order + 1)]
    np.testing.assert_allclose(fast.discounts, wanted, rtol=0, atol=1e-12)
    for row in train[:20] + held_out:
        np.testing.assert_allclose(
            fast.logprob(np.array(row)), slow.logprob(row), rtol=0, atol=1e-12
        )


def test_the_random_corpora_reach_the_closed_form() -> None:
    train = draw_rows(2, 200, 25, 300)[:150]
    fitted = KneserNey.fit(corpus(*train), 3, 200)
    assert not (fitted.discounts == FALLBACK).all(axis=1).any()


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], int, int, list[int]]:
    vocabulary = draw(st.integers(1, 6))
    row = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=12)
    train = draw(st.lists(row, min_size=1, max_size=8))
    train.append([*draw(row), 0])
    train.append([vocabulary - 1, 0])
    return train, draw(st.integers(1, 5)), vocabulary, draw(row)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_context_sums_to_one(case: tuple[list[list[int]], int, int, list[int]]) -> None:
    train, order, vocabulary, context = case
    fitted = KneserNey.fit(corpus(*train), order, vocabulary)
    after = [fitted.logprob(np.array([*context, w])) for w in range(vocabulary)]
    assert all(np.isfinite(logs).all() for logs in after)
    assert math.fsum(math.exp(logs[-1]) for logs in after) == pytest.approx(1, abs=1e-12)
    slow = Slow(train, order, vocabulary)
    np.testing.assert_allclose(fitted.logprob(np.array(context)), slow.logprob(context), atol=1e-12)


def test_discounts_by_hand() -> None:
    # counts of counts 4, 2, 1, 1: Y = 1/2, D1 = 1 - 1/2, D2 = 2 - 3/4, D3+ = 3 - 2
    row = [9, 0, 1, 2, 3, *[4] * 2, *[5] * 2, *[6] * 3, *[7] * 4]
    fitted = KneserNey.fit(corpus(row), 1, 10)
    np.testing.assert_allclose(fitted.discounts, [[0.5, 1.25, 1.0]], atol=1e-15)
    gamma = (4 * 0.5 + 2 * 1.25 + 2 * 1.0) / 15
    expected = np.log(
        [0.5 / 15 + gamma / 10, 0.75 / 15 + gamma / 10, 3 / 15 + gamma / 10, gamma / 10]
    )
    np.testing.assert_allclose(fitted.logprob(np.array([9, 0, 4, 7, 8])), expected, atol=1e-14)


def test_no_ngram_crosses_into_another_sequence() -> None:
    fitted = KneserNey.fit(corpus([0, 1], [2, 3]), 2, 4)
    unigram = 0.5 / 2 + 0.5 / 4  # of 1 and of 3; 0 and 2 only open, so keep 1/8
    np.testing.assert_allclose(
        np.exp(fitted.logprob(np.array([0, 1, 2, 3]))),
        [0.5 + 0.5 * unigram, 0.125, 0.5 + 0.5 * unigram],
        atol=1e-15,
    )


def test_ngrams_that_open_a_sequence_keep_their_raw_count() -> None:
    fitted = KneserNey.fit(corpus([0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 2]), 3, 4)
    one, two = 0.5 / 3 + 0.5 / 4, 1 / 3 + 0.5 / 4  # left of 1: {0}; left of 2: {0, 1}
    # 01 opens three times, 02 once: S = 4
    first = 1.5 / 4 + (1.5 + 0.5) / 4 * one
    # 12 has one distinct left; 012 is of the highest order and occurs three times
    second = 1.5 / 3 + 1.5 / 3 * (0.5 + 0.5 * two)
    np.testing.assert_allclose(
        np.exp(fitted.logprob(np.array([0, 1, 2]))), [first, second], atol=1e-15
    )


def test_orders_beyond_the_longest_sequence_change_nothing() -> None:
    rows, probe = corpus([0, 1, 2], [0, 2, 1]), np.array([0, 1, 2, 1, 0, 2])
    five, nine = KneserNey.fit(rows, 5, 3), KneserNey.fit(rows, 9, 3)
    np.testing.assert_array_equal(five.logprob(probe), nine.logprob(probe))
    assert five.discounts.shape == (3, 3)


def test_shapes_and_types() -> None:
    rows: list[Any] = [np.array([0, 1, 2], np.uint16), np.array([1], np.int32), np.array([])]
    fitted = KneserNey.fit(iter(rows), 2, 3)
    assert fitted.logprob(np.array([2])).shape == (0,)
    assert fitted.logprob(np.array([2, 0, 1], np.uint8)).shape == (2,)
    assert fitted.logprob(np.array([2, 0, 1])).dtype == np.float64


def test_cross_entropy_of_a_markov_chain_approaches_the_true_one() -> None:
    states, rows, length = 6, 200, 1001
    rng = np.random.default_rng(3)
    chain = rng.dirichlet(np.full(states, 0.5), size=(states, states))  # second order
    tokens = np.zeros((2 * rows, length), np.int64)
    tokens[:, :2] = rng.integers(states, size=(2 * rows, 2))
    edges, coins = chain.cumsum(-1), rng.random((2 * rows, length))
    for i in range(2, length):
        above = coins[:, i, None] > edges[tokens[:, i - 2], tokens[:, i - 1]]
        tokens[:, i] = np.minimum(above.sum(-1), states - 1)
    train, test = tokens[:rows], tokens[rows:]
    truth = -np.log(chain[test[:, :-2], test[:, 1:-1], test[:, 2:]]).mean()

    def cross_entropy(order: int) -> float:
        fitted = KneserNey.fit(list(train), order, states)
        return float(-np.mean([fitted.logprob(row)[1:] for row in test]))

    frequency = np.bincount(train[:, 1:].ravel()) / train[:, 1:].size
    unigram = -np.log(frequency[test[:, 2:]]).mean()
    assert cross_entropy(1) == pytest.approx(unigram, abs=1e-4)
    assert cross_entropy(2) > truth + 0.1
    assert truth < cross_entropy(3) < truth + 2e-3  # 180 free parameters cost 0.0005 nats
    assert truth < cross_entropy(5) < truth + 0.03


@pytest.mark.parametrize(
    ("rows", "order", "vocabulary", "message"),
    [
        ([[0, 1]], 0, 2, "order is 0"),
        ([[0, 1]], 2, 0, "vocabulary is 0"),
        ([[0, 1], [0, 7]], 2, 7, r"sequence 1 holds token 7, outside 0 to 6"),
        ([[0, -1]], 2, 7, r"token -1"),
        ([[0.0, 1.0]], 2, 7, "float64"),
        ([[[0, 1]]], 2, 7, r"shape \(1, 2\)"),
        ([], 2, 7, "empty"),
        ([[], [3]], 2, 7, "two tokens"),
    ],
)
def test_bad_training_data(rows: list[Any], order: int, vocabulary: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KneserNey.fit([np.array(row) for row in rows], order, vocabulary)


@pytest.mark.parametrize(
    ("row", "message"), [([], "empty"), ([0, 3], "token 3"), ([0.5], "float64"), (1, "shape")]
)
def test_bad_sequence(row: Any, message: str) -> None:
    fitted = KneserNey.fit(corpus([0, 1, 2]), 2, 3)
    with pytest.raises(ValueError, match=message):
        fitted.logprob(np.array(row))
