"""Long records are read from their beginning, as far as minutes and the base's positions allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from broadbase.core.contracts import Codec, Sample
from broadbase.inference.base import Base

LONGEST = 1024  # positions; attention costs their square


class Truncated:
    """A codec that reads the first `limit` values of a line; grids are read whole."""

    def __init__(self, codec: Codec, limit: int) -> None:
        self._codec, self.limit = codec, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def encode(self, raw: Any) -> Sample:
        """As the codec does, no further than the limit."""
        sample = self._codec.encode(raw)
        if not _long(sample, self.limit):
            return sample
        return replace(sample, values=sample.values[: self.limit], grid=(self.limit,))


def max_tokens(base: Base, modality: str) -> int:
    """How many values of a record are read at most."""
    return int(min(LONGEST, base.max_tokens(modality)))


def beginning(base: Base, modality: str) -> Base:
    """The base, which reads no record of a modality further than that."""
    name, codec = base.codec(modality)
    return replace(base, codecs={**base.codecs, name: Truncated(codec, max_tokens(base, modality))})


def long(codec: Codec, raws: Iterable[Any], limit: int) -> int:
    """How many of the records are not read to their end."""
    return sum(_long(codec.encode(raw), limit) for raw in raws)


def _long(sample: Sample, limit: int) -> bool:
    return len(sample.grid) == 1 and len(sample.values) > limit
