"""Documents: records as rows of numbers, with the start and end that their modality gives them.

Legend: B documents, N positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.view import Segment, positions

TOKENS = 2048  # of a batch of short records: enough for the products to be fast
FORWARD = 32  # tokens that a pass costs besides its own: calls, and products of few rows


def several(raws: Any) -> list[Any]:
    """Return records as a list; ConfigError if it is one record, not several."""
    if isinstance(raws, str | bytes | Mapping) or not isinstance(raws, Iterable):
        kind = type(raws).__name__
        raise ConfigError(f"expected a list of records, got one {kind}; write [record]")
    return list(raws)


def must_fit(space: str, longest: float, given: int, new: int = 0) -> None:
    """Raise DataError or ConfigError where a base has no positions for `given` and `new` tokens."""
    if given > longest:
        raise DataError(
            f"a {space} of {given} tokens, its start and end among them, is too long: this base has"
            f" positions for {longest:g}; give a shorter one"
        )
    if given + new > longest:
        raise ConfigError(
            f"{given} tokens are given and {new} more are to be generated, and this base has"
            f" positions for {longest:g}; ask for at most --max-new-tokens {longest - given:g}"
        )


@contextmanager
def unreadable(number: int, space: str, others: Sequence[str]) -> Iterator[None]:
    """Raise the errors of a codec as a DataError that names record `number`."""
    try:
        yield
    except BroadbaseError:
        raise
    except (TypeError, ValueError) as error:
        more = f"; this base has other modalities: {', '.join(others)}" if others else ""
        raise DataError(f"record {number} cannot be read as {space}: {error}{more}") from None


def prompts(
    space: str,
    codec: Codec,
    raws: Sequence[Any],
    closed: bool = False,
    special: bool = False,
) -> Segment:
    """Return documents as far as they are given: the start, then each of `raws` (None: nothing).

    `closed` ones have an end too, where the modality has one. With `special`, special
    tokens may be written in a text, else it is data. Shorter ones are padded at the end: [B, N+1].
    """
    return padded(space, [document(codec, raw, closed, special) for raw in raws])


def padded(space: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Segment:
    """Return documents, values and positions of each, as one segment."""
    lengths = torch.tensor([len(position) for _, position in pairs])
    index = torch.arange(int(lengths.max()))
    even = bool((lengths == len(index)).all())
    values, position = (
        pad_sequence([*each], batch_first=True) for each in zip(*pairs, strict=True)
    )
    number = torch.where(index < lengths[:, None], 0, -1)
    return Segment(
        space,
        values=values,
        position=position,
        document=None if even else number,
        order=None if even else index.expand(len(pairs), -1),
    )


def document(codec: Codec, raw: Any, closed: bool, special: bool = False) -> tuple[Tensor, Tensor]:
    """Return the values and positions of one document, as `prompts` reads it; never empty.

    A `Sample` is encoded already, as the records of a store are.
    """
    values = opening(codec)
    position = _line(len(values))
    if raw is not None:
        encode = codec.encode_prompt if special else codec.encode
        sample = raw if isinstance(raw, Sample) else encode(raw)
        first = max(len(values), int(len(sample.grid) > 1))
        values = np.concatenate([values, sample.values])
        position = torch.cat([position, first + positions(sample.grid)])
    if closed:
        last = closing(codec)
        values = np.concatenate([values, last])
        furthest = position[-1] if len(position) else -torch.ones(3, dtype=torch.int64)
        position = torch.cat([position, 1 + furthest + _line(len(last))])
    if not len(values):
        values, position = codec.start[None], _line(1)
    return torch.from_numpy(values), position


def opening(codec: Codec) -> NDArray[Any]:
    """Return the values before a record: those of the tokenizer's template, or the start."""
    if codec.before is not None:
        return codec.before
    return codec.start[None][: int(codec.has_bos)]


def closing(codec: Codec) -> NDArray[Any]:
    """Return the values after a complete record: those of the template, or the end."""
    if codec.after is not None:
        return codec.after
    return codec.start[None][:0] if codec.end is None else codec.end[None]


def separator(codec: Codec) -> NDArray[Any]:
    """Return the values between the items of a pair: those after a record, or those before one."""
    values = closing(codec)
    return values if len(values) else opening(codec)


def joined(
    codec: Codec, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return one document of two that are closed: the start stands once if there is an end."""
    again = len(opening(codec)) if len(closing(codec)) else 0
    (before, line), (after, positions) = first, second
    after, positions = after[again:], positions[again:]
    shift = 1 + line.amax() - positions.amin() if len(line) and len(positions) else 0
    return torch.cat([before, after]), torch.cat([line, positions + shift])


def alike(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Return the numbers of documents in batches of about one length, the longest first.

    A batch has at most `batch` of them, or more where these have at most `TOKENS` tokens together.
    The batches are those that cost least: a token for each token, padding too, and `FORWARD` for
    each batch. Documents of one length are parted only where a batch is full.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    ends = [n for n, i in enumerate(order) if n and lengths[i] < lengths[order[n - 1]]]
    ends = [0, *ends, *([len(order)] if order else [])]  # between documents of different lengths

    def number(first: int, end: int) -> int:
        """Return into how many batches these documents go."""
        return math.ceil((end - first) / max(batch, TOKENS // max(1, lengths[order[first]])))

    def cost(first: int, end: int) -> int:
        return (end - first) * lengths[order[first]] + FORWARD * number(first, end)

    least: dict[int, tuple[int, int]] = {0: (0, 0)}  # by end: the cost up to it, and where from
    for k, end in enumerate(ends[1:], 1):
        least[end] = min((least[first][0] + cost(first, end), first) for first in ends[:k])
    batches, end = list[list[int]](), len(order)
    while end:
        first = least[end][1]
        parts = np.array_split(order[first:end], number(first, end))
        batches = [*(part.tolist() for part in parts), *batches]
        end = first
    return batches


def _line(length: int) -> Tensor:
    """Return positions from the first on: [length,3]."""
    return torch.arange(length).unsqueeze(-1).expand(-1, 3)
