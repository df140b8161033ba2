"""The records that a run held out, as numbers and as raw values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from broadbase.core.codec import Codec, Sample
from broadbase.run.corpus import Corpus


class HeldOut(NamedTuple):
    """A held-out record: its source, as numbers, and decoded as a raw value."""

    source: str
    sample: Sample
    raw: Any


def held_out(
    corpus: Corpus,
    codecs: Mapping[str, Codec],
    space: str,
    choose: Callable[[int], Iterable[int]] = range,
) -> Iterator[HeldOut]:
    """Yield held-out records of a modality, those that `choose` takes of a number of records.

    Of a long record it is what fits a row with its start and end.
    """
    codec = codecs[space]
    for name, mixed in corpus.config.data.sources.items():
        if mixed.modality != space:
            continue
        split = corpus.stores[name].split("validation")
        for i in choose(len(split)):
            grid = tuple(int(n) for n in split.grids[i])
            if len(grid) == 1:
                grid = (min(grid[0], max(1, mixed.row_length - 2)),)
            values = split.piece(int(i), 1, int(np.prod(grid)))
            yield HeldOut(name, Sample(values, grid, 0), codec.decode(values, grid))
