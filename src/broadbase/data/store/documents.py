"""The documents of one side of a store, as numbers in memory-mapped files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Documents of one side of a store, memory-mapped."""

    values: tuple[NDArray[Any], ...]  # by shard: [total] or [total, K], memory-mapped
    shards: Ints  # [documents]
    firsts: Ints  # [documents] index of its first value in its shard
    lengths: Ints  # [documents] values, without start and end
    units_each: Ints  # [documents]
    grids: Ints  # [documents, axes]
    start: NDArray[Any]
    end: NDArray[Any] | None
    weights: tuple[NDArray[Any], ...] = ()  # by shard: [total] of targets; none: all count 1

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.lengths)

    @property
    def ends(self) -> int:
        """Return how many end values a document has: 0 or 1."""
        return 0 if self.end is None else 1

    @property
    def targets(self) -> int:
        """Return how many tokens are predicted in one epoch: every value that is a target, and
        every end."""
        values = int(self.lengths.sum())
        if self.weights:
            values = round(sum(float(self._weights(i).sum()) for i in range(len(self))))
        return values + len(self) * self.ends

    @property
    def units(self) -> int:
        """Return the size of all documents in the codec's unit."""
        return int(self.units_each.sum())

    def take(self, chosen: Ints) -> Split:
        """Return some of the documents, in the order given."""
        columns = ("shards", "firsts", "lengths", "units_each", "grids")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    def document(self, i: int) -> NDArray[Any]:
        """Return document i as the model sees it: start, values, end."""
        return self.piece(i, 0, int(self.lengths[i]) + 1 + self.ends)

    def piece(self, i: int, first: int, count: int) -> NDArray[Any]:
        """Return `count` tokens of document i from token `first` on; the start is token 0."""
        tokens = np.empty((count, *self.start.shape), dtype=self.start.dtype)
        self.copy(i, first, tokens)
        return tokens

    def copy(self, i: int, first: int, out: NDArray[Any]) -> None:
        """Fill `out` with document i from token `first` on; the start is token 0."""
        length, at, last = int(self.lengths[i]), int(self.firsts[i]), first + len(out)
        begins, ends = int(first == 0), int(last > length + 1)
        if begins:
            out[0] = self.start
        if ends:
            out[-1] = self.end
        inside = self.values[int(self.shards[i])][at + first + begins - 1 : at + last - ends - 1]
        out[begins : len(out) - ends] = inside

    def target_weights(self, i: int, first: int, count: int) -> NDArray[np.float32]:
        """Return how much `count` tokens of document i from `first` on are targets: [count].

        The first of them is none: it is the start, or it is repeated as context.
        """
        weight = np.ones(count, np.float32)
        if self.weights:
            document = np.concatenate([[0], self._weights(i), np.ones(self.ends)])
            weight = document[first : first + count].astype(np.float32)
        weight[0] = 0
        return weight

    def _weights(self, i: int) -> NDArray[Any]:
        """Return the weights of the values of document i."""
        at = int(self.firsts[i])
        return self.weights[int(self.shards[i])][at : at + int(self.lengths[i])]
