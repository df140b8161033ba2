"""A control for pairs: the same records, each under another's key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from broadbase.core.sources import Record, Reject, SourceConfig


class ShuffledConfig(SourceConfig):
    """The records of a source with their keys dealt out anew: nothing belongs together any more.

    What a model of pairs learns from them is what one half says without the other.
    """

    name: Literal["shuffled"] = "shuffled"
    source: SourceConfig
    """The source whose keys are dealt out anew."""
    seed: int = 0
    """The seed of the order."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.source.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        items = list(self.source.records())
        good = [record for record in items if isinstance(record, Record)]
        dealt = np.random.default_rng(self.seed).permutation(len(good))
        yield from (record for record in items if isinstance(record, Reject))
        for record, other in zip(good, dealt, strict=True):
            yield replace(record, key=good[other].key or good[other].origin)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        return {**self.source.fingerprint(), "shuffled": str(self.seed)}
