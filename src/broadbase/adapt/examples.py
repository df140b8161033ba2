"""Examples in a prompt: which labelled records, and in which order.

Legend: M records, E examples of a prompt, S kept records, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.splits import Indices
from broadbase.core.keyed_random import seed_of

ChoiceName = Literal["random", "balanced", "nearest"]
Strata = NDArray[np.int64]
TRIES = 100  # drawings of an order for each that is wanted


class ExampleChoice(NamedTuple):
    """A way to choose the examples of a prompt."""

    kept: Callable[[Strata, int, np.random.Generator], Indices]  # which records may be examples
    by_record: bool = False  # whether each record has examples of its own, by its vector


def drawn(strata: Strata, count: int, rng: np.random.Generator) -> Indices:
    """Return `count` of the records, drawn at random."""
    return rng.permutation(len(strata))[:count]


def balanced(strata: Strata, count: int, rng: np.random.Generator) -> Indices:
    """Return `count` of the records, drawn at random, of every stratum about as many."""
    order = rng.permutation(len(strata))
    ranks, seen = np.empty(len(order)), dict[int, int]()
    for i in order:
        ranks[i] = seen[int(strata[i])] = seen.get(int(strata[i]), -1) + 1
    return order[np.argsort(ranks[order], kind="stable")][:count]


def all_of(strata: Strata, *_: Any) -> Indices:
    """Return all records."""
    return np.arange(len(strata))


CHOICES: Mapping[ChoiceName, ExampleChoice] = {
    "random": ExampleChoice(drawn),
    "balanced": ExampleChoice(balanced),
    "nearest": ExampleChoice(all_of, by_record=True),
}


@dataclass(frozen=True)
class Examples:
    """Labelled records that stand in prompts; `vectors` where each record has its nearest."""

    raws: Sequence[Any]  # [S]
    answers: Sequence[str]  # [S]
    count: int  # in a prompt
    vectors: NDArray[np.float32] | None = None  # [S,F]

    def chosen(self, encoder: Encoder, inputs: Inputs, apart: bool = False) -> Indices:
        """Return the numbers [M,E] of each record's examples, the nearest last.

        With `apart` an equal record is no example.
        """
        M, E = len(inputs.raws), min(self.count, len(self.raws))
        if self.vectors is None or not E:
            return np.tile(np.arange(E), (M, 1))
        cosine_MS = _unit(encoder.vectors(inputs, LAST)) @ _unit(self.vectors).T
        if apart:
            kept = [content(raw) for raw in self.raws]
            for i, raw in enumerate(inputs.raws):
                cosine_MS[i, [digest == content(raw) for digest in kept]] = -np.inf
        return np.argsort(cosine_MS, axis=1, kind="stable")[:, -E:]

    def as_json(self) -> dict[str, Any]:
        """Return the records and answers as plain values."""
        raws = [list(raw) if isinstance(raw, tuple) else raw for raw in self.raws]
        return {"records": raws, "answers": list(self.answers), "count": self.count}


def orders_of(count: int, orders: int, seed: int) -> list[list[int]]:
    """Return different orders of so many examples: as many as `orders`, or all there are.

    The first is the order in which they were chosen.
    """
    if math.factorial(min(count, 12)) <= orders:
        return [list(each) for each in permutations(range(count))]
    rng, result = np.random.default_rng(seed_of(seed, "orders")), [list(range(count))]
    for _ in range(TRIES * orders):
        if len(result) == orders:
            break
        order = rng.permutation(count).tolist()
        if order not in result:
            result.append(order)
    return result


def _unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    vectors = x.astype(np.float64)
    result: NDArray[np.float64] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12
    )
    return result
