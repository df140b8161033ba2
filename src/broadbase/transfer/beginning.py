"""Long records are read as far as a base can be asked to look in minutes: their beginning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from broadbase.core.contracts import Codec, Sample

LONGEST = 1024  # places; attention costs their square


class Beginning:
    """A codec that reads the first LONGEST values of a line; grids are read whole."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def encode(self, raw: Any) -> Sample:
        """As the codec does, no further than LONGEST."""
        sample = self._codec.encode(raw)
        if not _long(sample):
            return sample
        return replace(sample, values=sample.values[:LONGEST], grid=(LONGEST,))


def long(codec: Codec, raws: Iterable[Any]) -> int:
    """How many of the records are not read to their end."""
    return sum(_long(codec.encode(raw)) for raw in raws)


def _long(sample: Sample) -> bool:
    return len(sample.grid) == 1 and len(sample.values) > LONGEST
