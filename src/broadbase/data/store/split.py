"""The two sides of a store: documents to train on, and documents held out for validation.

The hash of a document's content, or of its group, is a number that decides its side: below a
threshold it is held out. So a side depends on the document alone, not on the others. Only where
one side would be empty does the threshold move, to the nearest document.

Legend: N documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.core.codec import Codec

Ints = NDArray[np.int64]
Numbers = NDArray[np.uint64]
Ids = NDArray[np.uint8]  # [N,16]
Boundary = Callable[[str, str], bool]  # whether one begins between two neighbours

WINDOW = 4096  # values on each side of a cut in which a better one is looked for
STOPS = (".", "!", "?", "\u3002")
BOUNDARIES: tuple[Boundary, ...] = (  # the best first: lines, sentences, words
    lambda before, _: before.endswith("\n"),
    lambda before, after: before.rstrip("\"')").endswith(STOPS) and after[:1].isspace(),
    lambda _, after: after[:1].isspace(),
)


def numbers_of(ids: Ids) -> Numbers:
    """Return the numbers that decide sides: [N]."""
    numbers: Numbers = np.ascontiguousarray(ids[:, :8]).view(">u8").ravel().astype(np.uint64)
    return numbers


def threshold(numbers: Numbers, holdout: float) -> np.uint64:
    """Return the threshold: documents with a number below it are held out.

    It is `holdout` of the range, moved so far that neither side is empty: impossible only where
    all numbers are the same.
    """
    limit = np.uint64(min(holdout * 2.0**64, 2.0**64 - 2048))
    if not len(numbers):
        return limit
    least, most = numbers.min(), numbers.max()
    if limit <= least < most:
        return np.uint64(int(least) + 1)
    return np.uint64(most) if least < most < limit else limit


def in_common(ids: Mapping[str, Ids]) -> dict[str, Numbers]:
    """Return the numbers of the ids that each source shares with the sources it overlaps."""
    keys = {name: np.unique(np.ascontiguousarray(rows).view("V16")) for name, rows in ids.items()}
    shared_numbers = {}
    for name, source_ids in keys.items():
        both = [np.intersect1d(source_ids, other) for other in keys.values()]
        shared = reduce(np.intersect1d, [rows for rows in both if len(rows)], source_ids)
        shared_numbers[name] = numbers_of(shared.view(np.uint8).reshape(-1, 16))
    return shared_numbers


def cut(values: NDArray[Any], codec: Codec, holdout: float) -> int:
    """Return how many values of a single document come before its end, which is held out.

    At the end of a line, of a sentence or of a word, where one is near.
    """
    n = len(values)
    aim = min(max(n - round(n * holdout), 1), n - 1)
    if values.ndim > 1:  # of sound, any index is like any other
        return aim
    first, last = max(1, aim - min(WINDOW, n // 4)), min(n - 1, aim + min(WINDOW, n // 4))
    texts = [codec.decode(values[i : i + 1], (1,)) for i in range(first - 1, last + 1)]
    for begins in BOUNDARIES:
        ends = [first + i for i in range(last - first + 1) if begins(texts[i], texts[i + 1])]
        if ends:
            return min(ends, key=lambda count: abs(count - aim))
    return aim
