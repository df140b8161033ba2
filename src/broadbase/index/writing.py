"""Records into an index: what is new or changed is embedded, and what is gone is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from broadbase.core.errors import BroadbaseError
from broadbase.core.sources import Record, Reject
from broadbase.index.passages import UNCUT, Passage, Size, cut
from broadbase.index.store import Document, Store, Vectors

BATCH = 1024  # passages that are embedded and committed together, at least


@dataclass(frozen=True)
class Reading:
    """How a base reads records."""

    clean: Callable[[Any], Any]  # a record as the base reads it; its ValueError says what is wrong
    embed: Callable[[Sequence[Any]], Vectors]  # [M,F], of length 1
    size: Size  # tokens of a text
    limit: int  # tokens of a passage
    digest: Callable[[Any], str]  # of a record's content


@dataclass
class Update:
    """What an update of an index did, in documents."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    unreadable: int = 0
    first: str = ""  # the first that cannot be read, and why
    _documents: list[Document] = field(default_factory=list)  # that are not committed yet
    _raws: list[Any] = field(default_factory=list)  # of their passages

    def summary(self) -> dict[str, int]:
        """Return the counts by name."""
        names = ("added", "changed", "unchanged", "removed", "unreadable")
        return {name: getattr(self, name) for name in names}


def update(
    store: Store,
    source: str,
    items: Iterable[Record | Reject],
    reading: Reading,
    done: Callable[[int], None] = lambda _: None,
) -> Update:
    """Bring the documents of a source in an index up to date; `done` is called with documents.

    A document is what has an origin. One whose content is as before is not embedded again. Those of
    the source that are not among the items leave the index, unless they can only not be read now.
    """
    result, before, seen = Update(), store.digests(), dict[str, int]()
    unread: list[str] = []
    for item in items:
        done(1)
        if isinstance(item, Record):
            origin = _numbered(item.origin, seen)
            _add(result, before, origin, source, item.raw, reading)
        elif not item.empty:
            unread.append(item.origin)
            _refuse(result, item.origin, item.reason)
        if len(result._raws) >= BATCH:
            _commit(store, result, reading)
    _commit(store, result, reading)
    gone = [
        origin
        for origin, (of, _) in before.items()
        if of == source and origin not in seen and not any(_within(origin, each) for each in unread)
    ]
    if gone:
        result.removed = store.remove(gone)
    store.tidy()
    return result


def matching(store: Store, name: str) -> list[str]:
    """Return the origins of the documents of a source, of a folder or file, or of one origin."""
    return [
        origin
        for origin, (source, _) in store.digests().items()
        if source == name or _within(origin, name)
    ]


def _within(origin: str, name: str) -> bool:
    """Return whether an origin is a name, or below it: a file of a folder, a row of a table."""
    return origin == name or origin.startswith((f"{name.rstrip('/')}/", f"{name}:"))


def _numbered(origin: str, seen: dict[str, int]) -> str:
    """Return the origin of a record; of several records of one origin each with its number."""
    seen[origin] = number = seen.get(origin, 0) + 1
    if number == 1:
        return origin
    seen[name := f"{origin} ({number})"] = 1
    return name


def _add(
    result: Update,
    before: dict[str, tuple[str, str]],
    origin: str,
    source: str,
    raw: Any,
    reading: Reading,
) -> None:
    """Count a record, and keep what is to be written of it."""
    digest = reading.digest(raw)
    if origin in before and before[origin][1] == digest:
        result.unchanged += 1
        return
    try:
        passages: list[Passage] = [UNCUT]
        raws = [raw]
        if isinstance(raw, str):
            passages = [*cut(raw, reading.size, reading.limit)]
            raws = [passage.text for passage in passages]
        raws = [reading.clean(each) for each in raws]
    except BroadbaseError:
        raise
    except (TypeError, ValueError) as error:
        _refuse(result, origin, str(error))
        return
    result.added += origin not in before
    result.changed += origin in before
    result._documents.append(Document(origin, source, digest, passages))
    result._raws += raws


def _commit(store: Store, result: Update, reading: Reading) -> None:
    """Embed and write what is kept."""
    if result._documents:
        store.put(result._documents, reading.embed(result._raws))
        result._documents, result._raws = [], []


def _refuse(result: Update, origin: str, reason: str) -> None:
    result.unreadable += 1
    result.first = result.first or f"{origin}: {reason}"
