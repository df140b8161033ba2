"""Rows: documents cut into chunks and packed, or one a row; a function of a split and a length.

A document is cut into chunks of at most T tokens; a continuation begins with the last token of the
chunk before it, as context. The first token of every chunk has weight 0, so every token but a
document's start is a target exactly once an epoch. Documents whose rest means nothing alone, such
as conversations, are cut off instead (`pack_beginnings`).

Legend: T tokens a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.core.errors import DataError
from broadbase.core.view import positions
from broadbase.data.store.documents import Split

Ints = NDArray[np.int64]


# Chunks [chunks, 3]: document, first token, tokens; the chunks row by row; where each row starts.
Plan = tuple[Ints, Ints, Ints]


@dataclass(frozen=True)
class Row:
    """T tokens, on the host; or B rows of them."""

    values: NDArray[Any]  # [T] or [T,K]
    position: Ints  # [T,3]
    order: Ints  # [T] position in its chunk
    document: Ints  # [T] chunk in the row; -1 is padding
    weight: NDArray[np.float32]  # [T]


def pack_rows(split: Split, length: int) -> Plan:
    """Return chunks side by side, so that little is padded."""
    chunks = _cut(split, length)
    return chunks, *_pack(chunks[:, 2], length)


def pack_beginnings(split: Split, length: int) -> Plan:
    """Return the beginnings of documents side by side: a longer one is cut off, not continued."""
    chunks = _beginnings(split, length)
    return chunks, *_pack(chunks[:, 2], length)


def one_per_row(split: Split, length: int) -> Plan:
    """Return one document a row: the first tokens of a longer one."""
    return _beginnings(split, length), np.arange(len(split)), np.arange(len(split) + 1)


class Rows:
    """All rows of a split, in a fixed order."""

    def __init__(
        self, split: Split, length: int, plan: Callable[[Split, int], Plan] = pack_rows
    ) -> None:
        """Lay out all documents of a split in rows of `length` tokens."""
        self.split, self.length = split, length
        self.chunks, self.packed, self.starts = plan(split, length)
        self._range, self._line = np.arange(length), positions((length,)).numpy()
        self._planes = split.grids.shape[1] > 1
        self.plain = bool((self.chunks[:, 2] == length).all())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> Row:
        """Return the item at one position."""
        rows = self.batch([i])
        return Row(*(getattr(rows, field.name)[0] for field in fields(Row)))

    def batch(self, numbers: Sequence[int]) -> Row:
        """Return several rows at once, [B,T,...] each: written where they will be read."""
        B, T, start = len(numbers), self.length, self.split.start
        values = np.zeros((B, T, *start.shape), dtype=start.dtype)
        position, order = np.tile(self._line, (B, 1, 1)), np.tile(self._range, (B, 1))
        document, weight = np.zeros((B, T), np.int64), np.ones((B, T), np.float32)
        weight[:, 0] = 0  # as it all is where a row is one chunk of a line
        for b, i in enumerate(numbers):
            at, chunks = 0, self.packed[self.starts[i] : self.starts[i + 1]]
            for number, (d, first, tokens) in enumerate(self.chunks[chunks].tolist()):
                end = at + tokens
                self.split.copy(d, first, values[b, at:end])
                if number:
                    order[b, at:end], document[b, at:end] = self._range[:tokens], number
                    weight[b, at] = 0
                if self.split.weights:
                    weight[b, at:end] = self.split.target_weights(d, first, tokens)
                if number or self._planes:
                    position[b, at:end] = self._position(d, tokens)
                at = end
            if at < T:
                position[b, at:], order[b, at:], document[b, at:], weight[b, at:] = 0, 0, -1, 0
        return Row(values, position, order, document, weight)

    def _position(self, document: int, tokens: int) -> Ints:
        if not self._planes:
            return self._line[:tokens]
        grid = tuple(int(n) for n in self.split.grids[document])
        return np.concatenate([np.zeros((1, 3), np.int64), 1 + positions(grid).numpy()])


def _beginnings(split: Split, length: int) -> Ints:
    """Return a chunk for each document: its first tokens, at most `length`."""
    _fits(split, length)
    document = np.arange(len(split))
    tokens = np.minimum(length, split.lengths + 1 + split.ends)
    return np.stack([document, np.zeros_like(document), tokens], axis=1)


def _fits(split: Split, length: int) -> None:
    tokens = split.lengths + 1 + split.ends
    if split.grids.shape[1] > 1 and int(tokens.max()) > length:
        raise DataError(
            f"a record of {int(tokens.max())} tokens does not fit a row of {length}, and a picture"
            f" is not cut:"
            f" --set data.sources.NAME.sequence_length={int(tokens.max())}, or a larger patch"
        )


def _cut(split: Split, length: int) -> Ints:
    _fits(split, length)
    tokens = split.lengths + 1 + split.ends
    pieces = np.maximum(1, -(-(tokens - 1) // (length - 1)))
    document = np.repeat(np.arange(len(tokens)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = number * (length - 1)
    return np.stack([document, first, np.minimum(length, tokens[document] - first)], axis=1)


def _pack(sizes: Ints, length: int) -> tuple[Ints, Ints]:
    """Return best-fit decreasing: each chunk goes where it leaves least room (Ding et al. 2024, 3).

    Returns the chunks row by row, and where each row starts among them. Full chunks are rows.
    """
    full, rest = np.flatnonzero(sizes == length), np.flatnonzero(sizes < length)
    rows: list[list[int]] = []
    open_by_room: list[list[int]] = [[] for _ in range(length + 1)]
    for chunk in rest[np.argsort(-sizes[rest], kind="stable")].tolist():
        size = int(sizes[chunk])
        room = next((r for r in range(size, length + 1) if open_by_room[r]), None)
        if room is None:
            rows.append([chunk])
            row, room = len(rows) - 1, length
        else:
            row = open_by_room[room].pop()
            rows[row].append(chunk)
        if room - size > 1:
            open_by_room[room - size].append(row)
    tails = np.array([chunk for row in rows for chunk in row], dtype=np.int64)
    counts = np.concatenate([np.ones(len(full), np.int64), [len(row) for row in rows]])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.concatenate([full, tails]), starts
