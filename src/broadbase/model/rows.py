"""Rows that are drawn side by side, each to its own end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.contracts import Codec


def drawn(
    steps: Iterator[Tensor],
    rows: int,
    codec: Codec,
    stop: Sequence[str],
    grid: tuple[int, ...] | None,
) -> list[list[NDArray[Any]]]:
    """The values of each row up to its end, which is left out, or a text of `stop`."""
    told: list[list[NDArray[Any]]] = [[] for _ in range(rows)]
    live = [*range(rows)]
    for values in steps:
        new = values[:, 0].cpu().numpy()
        ended = np.zeros(rows, bool)
        if grid is None and codec.end is not None:
            ended = (new == codec.end).reshape(rows, -1).all(axis=1)
        for row in [*live]:
            if ended[row]:
                live.remove(row)
                continue
            told[row].append(new[row])
            text = codec.decode(np.array(told[row]), (len(told[row]),)) if stop else ""
            if any(s in text for s in stop):
                live.remove(row)
        if not live:
            break
    return told


def decoded(
    codec: Codec,
    told: Sequence[NDArray[Any]],
    stop: Sequence[str],
    grid: tuple[int, ...] | None = None,
) -> Any:
    """What was told, as a raw value."""
    found = codec.decode(np.array(told), grid or (len(told),))
    return _cut(found, stop)


def _cut(text: Any, stop: Sequence[str]) -> Any:
    ends = [text.index(s) for s in stop if s in text]
    return text[: min(ends)] if ends else text
