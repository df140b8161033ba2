"""Long records are read from their beginning, as far as minutes and the base's positions allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from broadbase.core.codec import Codec, Sample
from broadbase.core.sources import parts
from broadbase.inference.base import Base
from broadbase.inference.documents import separator

LONGEST = 1024  # positions; attention costs their square


class Truncated(Codec):
    """A codec that reads at most the first `limit` values of a line, and grids in full."""

    def __init__(self, codec: Codec, limit: int) -> None:
        """Take the codec, and how many values it reads."""
        self._codec, self.limit = codec, limit
        self.unit, self.start, self.end, self.has_bos = (
            codec.unit, codec.start, codec.end, codec.has_bos
        )  # fmt: skip
        self.before, self.after, self.ends = codec.before, codec.after, codec.ends
        self.placeholder_ids, self.tokenizer = codec.placeholder_ids, codec.tokenizer

    def encode(self, raw: Any) -> Sample:
        """Encode what a record holds, at most `limit` values of it."""
        sample = self._codec.encode_content(raw)
        if not is_long(sample, self.limit):
            return sample
        return replace(sample, values=sample.values[: self.limit], grid=(self.limit,))

    def encode_prompt(self, raw: Any) -> Sample:
        """Encode a prompt, in full."""
        return self._codec.encode_prompt(raw)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> Any:
        """Decode values, as the codec does."""
        return self._codec.decode(values, grid)

    def continuation(
        self, before: NDArray[Any], values: NDArray[Any], special: bool = False
    ) -> Any:
        """Decode values that follow others, as the codec does."""
        return self._codec.continuation(before, values, special)

    def is_special(self, identity: int) -> bool:
        """Return whether an id is a special token."""
        return self._codec.is_special(identity)

    def id_to_token(self, identity: int) -> str:
        """Return the token of an id as it is written."""
        return self._codec.id_to_token(identity)

    def save(self, folder: Path) -> None:
        """Write what the codec writes; the limit is not part of it."""
        self._codec.save(folder)


def max_tokens(base: Base, modality: str, joint: bool = False) -> int:
    """Return how many values of a record are read at most; of each item of a pair that is `joint`.

    Then both, and what is between them, take no more room than one record.
    """
    limit = int(min(LONGEST, base.max_tokens(modality)))
    return (limit - len(separator(base.codec(modality)[1]))) // 2 if joint else limit


def beginning(base: Base, modality: str, joint: bool = False) -> Base:
    """Return the base with a codec that reads no record of a modality further than its limit."""
    (name, codec), limit = base.codec(modality), max_tokens(base, modality, joint)
    return replace(base, codecs={**base.codecs, name: Truncated(codec, limit)})


def long(codec: Codec, raws: Iterable[Any], limit: int) -> int:
    """Count the records that are not read to their end."""
    return sum(any(is_long(codec.encode_content(x), limit) for x in parts(raw)) for raw in raws)


def is_long(sample: Sample, limit: int) -> bool:
    """Return whether a record is a line of more than `limit` values."""
    return len(sample.grid) == 1 and len(sample.values) > limit
