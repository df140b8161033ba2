"""What a source of data gives: records, and items that cannot be used."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from broadbase.core.config import Slot


class Pair(NamedTuple):
    """Two raw items of one modality that are one record, as a question and an answer."""

    first: Any
    second: Any


def parts(raw: Any) -> tuple[Any, ...]:
    """Return the two items of a pair; of any other record the record alone."""
    return tuple(raw) if isinstance(raw, Pair) else (raw,)


def each_part(function: Callable[[Any], Any], raw: Any) -> Any:
    """Return what a function makes of a record, of a pair a pair of what it makes of each item."""
    return Pair(*map(function, raw)) if isinstance(raw, Pair) else function(raw)


@dataclass(frozen=True)
class Record:
    """One raw item of a source: a text, an image; what its modality's codec takes."""

    raw: Any
    origin: str  # where it came from, for messages: "news.jsonl:17"
    label: str | None = None
    key: str = ""  # its name among paired sources; empty: its index
    group: str = ""  # records of one group fall on one side of the split; empty: a group of its own
    converted: tuple[str, ...] = ()  # what its source changed of it knowingly: "2 channels to 1"


@dataclass(frozen=True)
class Reject:
    """An item that cannot be used, and why.

    The budget of rejects is exceeded where too large a share of the records is rejected, or where
    too large a share of the bytes is `lost`.
    """

    origin: str
    reason: str
    empty: bool = False  # nothing is lost with it, so the budget of rejects does not count it
    records: int = 1  # how many records are lost with it, as far as the source can say
    lost: int = 0  # bytes of a file of many records that cannot be read because of it


@dataclass(frozen=True)
class SourceChunk:
    """A piece of a source that is read apart from the others: a file, or some lines of one."""

    name: str  # a key of the source's fingerprint, or "" for everything
    size: int = 0  # bytes, for progress
    start: int = 0  # first byte in its file
    stop: int | None = None  # the byte after its last; None: all
    line: int = 1  # the number of its first line


class SourceConfig(Slot):
    """Where raw items come from."""

    package: ClassVar[str] = "data"

    def records(self) -> Iterator[Record | Reject]:
        """All items in a fixed order; DataError where nothing can be read at all."""
        for part in self.parts():
            yield from self.read(part)

    def parts(self) -> Sequence[SourceChunk]:
        """Return the source in pieces, in order; one piece where it cannot be cut."""
        return (SourceChunk(""),)

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the items of one piece; define this or `records`."""
        return self.records()

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of what the items are made of, by file: equal only for equal items."""

    def would_read(self, path: Path) -> bool:
        """Return whether a file written at the resolved `path` would be read as data."""
        return False

    @property
    def licence(self) -> str:
        """Under what terms the data may be used, as far as the source says."""
        return "not stated"
