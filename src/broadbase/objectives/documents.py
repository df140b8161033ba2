"""Packed rows as documents, and documents as packed rows.

For objectives that change the order or the number of tokens. Legend: B rows, N tokens of a row, n
tokens of a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.config import hint
from broadbase.core.errors import ConfigError
from broadbase.core.view import Segment


@dataclass(frozen=True)
class Document:
    """The ids of one document, the start first."""

    values: Tensor  # [n]
    loss_weight: Tensor  # [n] how much each counts as a target
    masked: Tensor | None = None  # [n] bool: embed as masked

    def __len__(self) -> int:
        """Return n."""
        return len(self.values)

    def reordered(self, order: NDArray[np.int64]) -> Document:
        """Return the document with its tokens in another order [n]."""
        index = torch.from_numpy(order)
        masked = None if self.masked is None else self.masked[index]
        return Document(self.values[index], self.loss_weight[index], masked)


def documents(segment: Segment) -> list[list[Document]]:
    """Return the documents of each row, in order; ConfigError if the values are vectors."""
    values, weight = segment.values, segment.target_weight
    if values.ndim != 2:
        raise ConfigError(
            f"this objective reorders ids, and {segment.space!r} holds vectors; use causal or"
            " masked for it"
        )
    return [
        [Document(values[b, i:j], weight[b, i:j]) for i, j in _spans(segment, b)]
        for b in range(len(values))
    ]


def _spans(segment: Segment, row: int) -> Iterator[tuple[int, int]]:
    """Yield where the documents of a row begin and end."""
    if segment.document is None:
        yield 0, int(segment.position.shape[1])
        return
    numbers, counts = torch.unique_consecutive(segment.document[row], return_counts=True)
    ends = counts.cumsum(0)
    for number, count, end in zip(numbers.tolist(), counts.tolist(), ends.tolist(), strict=True):
        if number >= 0:
            yield end - count, end


def assemble(space: str, rows: Sequence[Sequence[Document]], length: int = 0) -> Segment:
    """Return rows of documents as one Segment [B,N] of a modality.

    N is `length`; tokens beyond it are cut off. With 0, N is what the longest row needs, rounded up
    to a multiple of 8, so that few different shapes occur.
    """
    N = length or -(-max(sum(map(len, row)) for row in rows) // 8) * 8
    B, dtype = len(rows), rows[0][0].values.dtype
    values, order = torch.zeros(B, N, dtype=dtype), torch.zeros(B, N, dtype=torch.int64)
    document, weight = torch.full((B, N), -1), torch.zeros(B, N)
    masked = torch.zeros(B, N, dtype=torch.bool)
    for b, row in enumerate(rows):
        start = 0
        for number, item in enumerate(row):
            n = min(len(item), N - start)
            here = slice(start, start + n)
            values[b, here], weight[b, here] = item.values[:n], item.loss_weight[:n]
            order[b, here], document[b, here] = torch.arange(n), number
            if item.masked is not None:
                masked[b, here] = item.masked[:n]
            start += n
    position = order.unsqueeze(-1).expand(-1, -1, 3)
    any_masked = any(item.masked is not None for row in rows for item in row)
    return Segment(space, values, position, order, document, masked if any_masked else None, weight)


def next_token_targets(segment: Segment) -> tuple[Segment, Tensor, Tensor]:
    """Return what a causal stream reads, and the next values [B,N-1,...] and weights [B,N-1].

    The last token of a document has the first of the next as its target, whose weight is 0.
    """
    weight_BN = segment.target_weight
    return segment.map(lambda x_BN: x_BN[:, :-1]), segment.values[:, 1:], weight_BN[:, 1:]


def paired_with(objective: str, sources: Mapping[str, str | None], *names: str) -> None:
    """Check that the named sources exist and are of one pair group; ValueError otherwise."""
    for name in names:
        if name not in sources:
            raise ValueError(f"objective {objective!r}: no source {name!r}{hint(name, sources)}")
    groups = {sources[name] for name in names}
    if None in groups or len(groups) > 1:
        raise ValueError(
            f"objective {objective!r} needs {' and '.join(names)} row by row: give both the same"
            f" data.sources.*.pair_group (now: {', '.join(f'{n} {sources[n]}' for n in names)})"
        )


def sentinel_ids(sentinels: range, segment: Segment, count: int) -> Sequence[int]:
    """Return the first `count` sentinels of a modality; ConfigError if it has fewer."""
    if len(sentinels) < count:
        raise ConfigError(
            f"this objective needs {count} extra ids, and modality {segment.space!r} has"
            f" {len(sentinels)}; set model.modalities.{segment.space}.extra_ids={count}"
        )
    return sentinels[:count]
