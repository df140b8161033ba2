"""Packed rows taken apart into documents, and documents put together into rows again.

For objectives that change the order or the number of places. Legend: B rows, N places of a row, n
places of a document.
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
        return len(self.values)

    def taken(self, places: NDArray[np.int64]) -> Document:
        """The document with its places in another order."""
        index = torch.from_numpy(places)
        hidden = None if self.masked is None else self.masked[index]
        return Document(self.values[index], self.loss_weight[index], hidden)


def documents(segment: Segment) -> list[list[Document]]:
    """The documents of each row, in order; ConfigError where the values are no ids."""
    values, weight = segment.values, segment.loss_weight
    assert values is not None
    assert weight is not None
    if values.ndim != 2:
        raise ConfigError(
            f"this objective moves ids about, and {segment.space!r} holds vectors; use causal or"
            " masked for it"
        )
    return [
        [Document(values[b, i:j], weight[b, i:j]) for i, j in _spans(segment, b)]
        for b in range(len(values))
    ]


def _spans(segment: Segment, row: int) -> Iterator[tuple[int, int]]:
    """Where the documents of a row begin and end."""
    if segment.document is None:
        yield 0, int(segment.position.shape[1])
        return
    numbers, counts = torch.unique_consecutive(segment.document[row], return_counts=True)
    ends = counts.cumsum(0)
    for number, count, end in zip(numbers.tolist(), counts.tolist(), ends.tolist(), strict=True):
        if number >= 0:
            yield end - count, end


def assemble(source: str, rows: Sequence[Sequence[Document]], places: int = 0) -> Segment:
    """Rows of documents as one Segment [B,N]; N is `places`, or what the longest row needs.

    N is rounded up to a multiple of 8, so that few different shapes occur. What is beyond `places`
    is cut off.
    """
    N = places or -(-max(sum(map(len, row)) for row in rows) // 8) * 8
    B, dtype = len(rows), rows[0][0].values.dtype
    values, order = torch.zeros(B, N, dtype=dtype), torch.zeros(B, N, dtype=torch.int64)
    document, weight = torch.full((B, N), -1), torch.zeros(B, N)
    hidden = torch.zeros(B, N, dtype=torch.bool)
    for b, row in enumerate(rows):
        at = 0
        for number, each in enumerate(row):
            n = min(len(each), N - at)
            here = slice(at, at + n)
            values[b, here], weight[b, here] = each.values[:n], each.loss_weight[:n]
            order[b, here], document[b, here] = torch.arange(n), number
            if each.masked is not None:
                hidden[b, here] = each.masked[:n]
            at += n
    position = order.unsqueeze(-1).expand(-1, -1, 3)
    some = hidden if any(d.masked is not None for row in rows for d in row) else None
    return Segment(source, values, position, order, document, some, weight)


def next_token_targets(segment: Segment) -> tuple[Segment, Tensor, Tensor]:
    """What a causal stream reads, and the values [B,N-1] and weights [B,N-1] that come next.

    A document's last place has another document's first after it, whose weight is 0.
    """
    assert segment.values is not None
    assert segment.loss_weight is not None
    return segment.map(lambda x_BN: x_BN[:, :-1]), segment.values[:, 1:], segment.loss_weight[:, 1:]


def paired_with(objective: str, sources: Mapping[str, str | None], *names: str) -> None:
    """ValueError where the named sources are not there, or are not pairs of one group."""
    for name in names:
        if name not in sources:
            raise ValueError(f"objective {objective!r}: no source {name!r}{hint(name, sources)}")
    groups = {sources[name] for name in names}
    if None in groups or len(groups) > 1:
        raise ValueError(
            f"objective {objective!r} needs {' and '.join(names)} row by row: give both the same"
            f" data.sources.*.pair_group (now: {', '.join(f'{n} {sources[n]}' for n in names)})"
        )


def sentinel_ids(marks: range, segment: Segment, count: int) -> Sequence[int]:
    """The first `count` control ids of a Space; ConfigError where it has fewer."""
    if len(marks) < count:
        raise ConfigError(
            f"this objective needs {count} control ids, modality {segment.space!r} has"
            f" {len(marks)}; set model.modalities.{segment.space}.extra_ids={count}"
        )
    return marks[:count]
