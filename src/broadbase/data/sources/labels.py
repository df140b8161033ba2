"""The labels of another source's records, as records of their own: what is given to a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from broadbase.core.sources import Record, Reject, SourceChunk, SourceConfig


class LabelsConfig(SourceConfig):
    """Texts, paired with the records that they label."""

    name: Literal["labels"] = "labels"
    source: SourceConfig
    """The source whose labels are read."""
    names: tuple[str, ...] = ()
    """The names of labels that are numbers from 0; empty: labels are names."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.source.licence

    def parts(self) -> Sequence[SourceChunk]:
        """Return the pieces that are read apart."""
        return self.source.parts()

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the records and rejects of one piece."""
        numbers = {str(i): name for i, name in enumerate(self.names)}
        for record in self.source.read(part):
            if isinstance(record, Reject):
                yield record
            elif record.label is None:
                yield Reject(record.origin, "it has no label")
            elif self.names and record.label not in numbers:
                yield Reject(
                    record.origin, f"label {record.label!r} is no number below {len(self.names)}"
                )
            else:
                label = numbers[record.label] if self.names else record.label
                yield replace(record, raw=label, key=record.key or record.origin)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        return self.source.fingerprint()
