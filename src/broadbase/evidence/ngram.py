"""Interpolated modified Kneser-Ney: the n-gram baseline of a small language model.

Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", TR-10-98,
Harvard 1998, section 3. With h a context of k - 1 tokens and h' the same without its first token,

    p_k(w | h) = (a(hw) - D_k(a(hw))) / S(h) + g(h) p_{k-1}(w | h'),    S(h) = sum_w a(hw),
    g(h) = (D1 N1(h.) + D2 N2(h.) + D3 N3+(h.)) / S(h),                 p_0 = 1 / vocabulary,

where Ni(h.) is how many tokens w have a(hw) = i, and a context never seen has p_k = p_{k-1}.
a(hw) is the number of occurrences at the highest order; below it, the number of distinct tokens
seen to the left of hw, plus the number of occurrences that open a sequence and so have no left.
Where a start symbol opens every sequence and occurs nowhere else this is the count of KenLM
(Heafield et al. 2013, section 3.2). The first token of a sequence is never predicted, hence is no
event of order 1.

Legend: N tokens, G distinct k-grams of one order, C distinct (k-1)-grams, their contexts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Reals = NDArray[np.float64]

FALLBACK = (0.5, 1.0, 1.5)  # what KenLM's --discount_fallback takes


@dataclass(frozen=True, eq=False)
class _Level:
    """The k-grams of one order k.

    A k-gram's number is its index in `key`, which is sorted; -1 is a k-gram that was not seen.
    """

    key: Ids  # number of the (k-1)-gram prefix * vocabulary + last token, [G]
    discounted: Reals  # (a - D) / S of each k-gram, [G + 1]; the last entry, 0, serves index -1
    backoff: Reals  # g of each context, [C + 1]; the last entry, 1, serves index -1
    discounts: Reals  # D1, D2, D3+, [3]

    def find(self, key: Ids) -> Ids:
        """Return the numbers of the k-grams with these keys.

        It is -1 for k-grams that were not seen, and for those whose prefix was not.
        """
        index = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where(self.key[index] == key, index, -1)


class KneserNey:
    """An n-gram model that gives every token a positive probability after any context.

    Over the vocabulary the probabilities sum to 1, up to rounding. Order 1 is the unigram.
    `fit` makes one from data.
    """

    def __init__(self, order: int, vocabulary: int, levels: tuple[_Level, ...]) -> None:
        """Keep the counted levels, one for each order."""
        self.order = order
        self.vocabulary = vocabulary
        self._levels = levels

    @classmethod
    def fit(
        cls, sequences: Iterable[NDArray[np.integer]], order: int, vocabulary: int
    ) -> KneserNey:
        """Count the n-grams of `sequences`, [N] each, of ids in [0, vocabulary).

        No n-gram crosses from one sequence to the next. Sequences of fewer than two tokens predict
        nothing and are skipped. Time is that of `order` sorts of all tokens: a million at order 5
        take about 1 s and 350 MB at the peak.

        Raises ValueError if order or vocabulary is below 1, if a sequence is not a row of integers,
        if an id is out of range, or if there is no token to predict.
        """
        if order < 1:
            raise ValueError(f"order is {order}; give 1 (unigram) or more")
        if vocabulary < 1:
            raise ValueError(f"vocabulary is {vocabulary}; give the number of token ids, 1 or more")
        checked = (_checked(s, vocabulary, f"sequence {i}") for i, s in enumerate(sequences))
        usable = [tokens for tokens in checked if len(tokens) > 1]
        if not usable:
            raise ValueError(
                "sequences is empty: no token to predict; give a sequence of two tokens or more"
            )
        levels: list[_Level] = []
        contexts = 1
        for key, count in _counted(usable, order, vocabulary):
            levels.append(_level(key, count, contexts, vocabulary))
            contexts = len(key)
        return cls(order, vocabulary, tuple(levels))

    @property
    def discounts(self) -> Reals:
        """Return the discounts D1, D2, D3+ of orders 1, 2, ..., [orders, 3].

        Orders longer than every sequence in training have no n-grams and no row.
        """
        return np.stack([level.discounts for level in self._levels])

    def logprob(self, sequence: NDArray[np.integer]) -> Reals:
        """Return the log-probability, in nats, of each token but the first: [N] to [N - 1].

        A token is predicted from the order - 1 tokens before it, or as many as there are.

        Raises ValueError if the sequence is empty, not a row of integers, or holds an id outside
        the vocabulary.
        """
        tokens = _checked(sequence, self.vocabulary, "the sequence")
        if not len(tokens):
            raise ValueError("the sequence is empty; give at least its first token, the context")
        probability = np.full(len(tokens), 1.0 / self.vocabulary)
        number = np.zeros(len(tokens), np.int64)  # of the (k-1)-gram that starts at each token
        for k, level in enumerate(self._levels[: len(tokens)], start=1):
            context = number[: len(tokens) - k + 1]
            number = level.find(context * self.vocabulary + tokens[k - 1 :])
            probability[k - 1 :] *= level.backoff[context]
            probability[k - 1 :] += level.discounted[number]
        logs: Reals = np.log(probability[1:])
        return logs

    def following(self, context: NDArray[np.integer]) -> Reals:
        """Return the probability of every token after `context`: [N] to [V].

        Only the last order - 1 tokens of the context matter.
        """
        context = np.asarray(context)[max(0, len(context) - self.order + 1) :]
        probability = np.full(self.vocabulary, 1.0 / self.vocabulary)
        token = np.arange(self.vocabulary)
        for k, level in enumerate(self._levels[: len(context) + 1], start=1):
            number = 0  # of the (k-1)-gram that ends the context
            for i, last in enumerate(context[len(context) - k + 1 :]):
                key = np.array([number * self.vocabulary + last])
                number = int(self._levels[i].find(key)[0])
                if number < 0:
                    break
            if number < 0:
                break
            probability *= level.backoff[number]
            probability += level.discounted[level.find(number * self.vocabulary + token)]
        return probability

    def sample(
        self, start: int, end: int, max_new_tokens: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Sample tokens after `start` up to `end` or `max_new_tokens`; returns those in between."""
        tokens = [start]
        while len(tokens) <= max_new_tokens:
            probability = self.following(np.array(tokens))
            token = int(rng.choice(self.vocabulary, p=probability / probability.sum()))
            if token == end:
                break
            tokens.append(token)
        return np.array(tokens[1:], dtype=np.int64)


def _checked(sequence: NDArray[np.integer], vocabulary: int, name: str) -> Ids:
    """Return the sequence as int64, [N]; ValueError if it is no row of ids in [0, vocabulary)."""
    tokens = np.asarray(sequence)
    if tokens.ndim != 1:
        raise ValueError(f"{name} has shape {tokens.shape}; give one row of token ids")
    if not tokens.size:
        return np.empty(0, np.int64)
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"{name} is of type {tokens.dtype}; give integers, token ids")
    for token in (tokens.min(), tokens.max()):
        if not 0 <= token < vocabulary:
            raise ValueError(
                f"{name} holds token {token}, outside 0 to {vocabulary - 1}; "
                "give the vocabulary of the codec that made it"
            )
    return tokens.astype(np.int64)


def _counted(sequences: list[Ids], order: int, vocabulary: int) -> list[tuple[Ids, Ids]]:
    """Return keys and counts a, [G] each, of orders 1 to `order`, or to the longest sequence."""
    lengths = np.array([len(tokens) for tokens in sequences])
    tokens = np.concatenate(sequences)
    ends = np.cumsum(lengths)
    left = np.repeat(ends, lengths) - np.arange(len(tokens))  # tokens from here to the end
    opens = np.zeros(len(tokens), bool)
    opens[ends - lengths] = True
    number = np.zeros(len(tokens), np.int64)  # of the (k-1)-gram that starts at each token
    keys: list[Ids] = []
    counts: list[Ids] = []
    for k in range(1, min(order, int(lengths.max())) + 1):
        at = np.flatnonzero(left >= k)
        key, sample, inverse, count = np.unique(
            number[at] * vocabulary + tokens[at + k - 1],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        if counts:
            # each distinct k-gram is one left extension of the (k-1)-gram one token to its right
            counts[-1] += np.bincount(number[at[sample] + 1], minlength=len(counts[-1]))
        opening = np.bincount(inverse[opens[at]], minlength=len(key))
        adjusted = count if k == order else opening
        keys.append(key)
        counts.append(adjusted - opening if k == 1 else adjusted)
        number[at] = inverse
    return list(zip(keys, counts, strict=True))


def _level(key: Ids, count: Ids, contexts: int, vocabulary: int) -> _Level:
    """Return the discounted probabilities and the backoff of each of `contexts` contexts."""
    discounts = _discounts(count)
    discount = np.append(0.0, discounts)[np.minimum(count, 3)]
    context = key // vocabulary
    total = np.bincount(context, weights=count, minlength=contexts)
    freed = np.bincount(context, weights=discount, minlength=contexts)
    # a context seen only at the ends of sequences has total 0 and backs off entirely
    divisor = np.maximum(total, 1.0)
    backoff = np.where(total > 0, freed / divisor, 1.0)
    discounted = (count - discount) / divisor[context]
    return _Level(key, np.append(discounted, 0.0), np.append(backoff, 1.0), discounts)


def _discounts(count: Ids) -> Reals:
    """Return D1, D2, D3+, [3], from the counts of counts of one order (ibid., eq. 26).

    With t_i the number of n-grams counted i times and Y = t1 / (t1 + 2 t2), D_i is
    i - (i + 1) Y t_{i+1} / t_i, which never exceeds i. Where t1, t2 or t3 is 0, or a D_i is not
    positive (few data, or an order with nearly all its n-grams seen), the three together are
    `FALLBACK`: a D_i of 0 could leave a context nothing for the tokens it never saw.
    """
    t = np.bincount(np.minimum(count, 5), minlength=6)[1:5].astype(np.float64)
    if not t[:3].all():
        return np.array(FALLBACK)
    i = np.arange(1, 4)
    discounts: Reals = i - (i + 1) * (t[0] / (t[0] + 2 * t[1])) * t[1:] / t[:3]
    return discounts if (discounts > 0).all() else np.array(FALLBACK)
