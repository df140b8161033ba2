"""Documents: records as rows of numbers, with the start and end that their modality gives them.

Legend: B documents, N positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from broadbase.core.contracts import Codec
from broadbase.core.errors import ConfigError
from broadbase.core.view import Segment, positions

PLACES = 2048  # of a batch of short records: enough for the products to be fast


def several(raws: Any) -> list[Any]:
    """Records as a list; ConfigError where it is one record, not several."""
    if isinstance(raws, str | bytes | Mapping) or not isinstance(raws, Iterable):
        kind = type(raws).__name__
        raise ConfigError(f"expected a list of records, got one {kind}; write [record]")
    return list(raws)


def prompts(space: str, codec: Codec, raws: Sequence[Any], whole: bool = False) -> Segment:
    """Documents as far as they are given: the start value, then each of `raws` (None: nothing).

    `whole` ones have their end value, where the modality has one. Shorter ones are padded at the
    end: [B, N+1].
    """
    return padded(space, [document(codec, raw, whole) for raw in raws])


def padded(space: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Segment:
    """Documents, values and positions of each, as one segment."""
    length = max(len(position) for _, position in pairs)
    even = all(len(position) == length for _, position in pairs)
    place = torch.arange(length)
    number = torch.stack([torch.where(place < len(p), 0, -1) for _, p in pairs])
    return Segment(
        space,
        values=torch.stack([_pad(values, length) for values, _ in pairs]),
        position=torch.stack([_pad(position, length) for _, position in pairs]),
        document=None if even else number,
        order=None if even else place.expand(len(pairs), -1),
    )


def document(codec: Codec, raw: Any, whole: bool) -> tuple[Tensor, Tensor]:
    """Values [N,...] and positions [N,3] of one document; see `prompts`."""
    values, position = codec.start[None], torch.zeros(1, 3, dtype=torch.int64)
    begins = getattr(codec, "begins", True)  # some published encoders have no start value
    if not begins:
        values, position = values[:0], position[:0]
    if raw is not None:
        sample = codec.encode(raw)
        values = np.concatenate([values, sample.values])
        first = 1 if begins or len(sample.grid) > 1 else 0
        position = torch.cat([position, first + positions(sample.grid)])
    if whole and codec.end is not None:
        values = np.concatenate([values, codec.end[None]])
        position = torch.cat([position, 1 + position[-1:]])
    return torch.from_numpy(values), position


def alike(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Numbers of documents in batches of about one length, the longest first: `batch` of them, or
    more where they have no more than `PLACES` places together."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = batches[-1] if batches else []
        if last and len(last) < max(batch, PLACES // max(1, lengths[last[0]])):
            last.append(i)
        else:
            batches.append([i])
    return batches


def _pad(values: Tensor, length: int) -> Tensor:
    padded = values.new_zeros(length, *values.shape[1:])
    padded[: len(values)] = values
    return padded
