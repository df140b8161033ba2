"""The table of a source: all documents of its shards, in the order of its parts.

Legend: N documents of a source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.core.codec import Codec
from broadbase.data.store.requests import Snapshot
from broadbase.data.store.shards import Shard, finished
from broadbase.data.store.split import Ints, cut
from broadbase.data.store.store import COLUMNS


@dataclass(frozen=True)
class Table:
    """All documents of a source in the order of its parts, whatever shards they lie in."""

    shards: list[Shard]
    index: Ints  # [N, COLUMNS + axes]: shard, first value, length, units, grid
    rows: Ints  # [N] number in the shard
    ids: NDArray[np.uint8]  # [N,16]
    sketches: list[NDArray[np.uint32]]  # together [N,SKETCH]
    counts: dict[str, int]
    size: int  # bytes of its parts
    converted: dict[str, int]
    rejected: list[str]
    cut: int = 0  # values before the index at which a single document was cut in two

    @classmethod
    def of(cls, snapshot: Snapshot, store: Path) -> Table:
        """Build the table from the finished shards of a store."""
        keys = snapshot.keys
        order = {key: i for i, key in enumerate(keys)}
        made = sorted(finished(store), key=lambda shard: order[shard.facts["keys"][0]])
        shards = [shard for shard in made if shard.documents]
        where = {key: (n, rows) for n, s in enumerate(shards) for key, rows in _parts(s)}
        chunks = [
            _chunk(shards[n], n, rows)
            for n, rows in _joined(where[key] for key in keys if key in where)
        ]
        empty = (np.zeros((0, COLUMNS + 1), np.int64), np.zeros(0, np.int64))
        index, rows, ids, sketches = zip(
            *(chunks or [(*empty, np.zeros((0, 16), np.uint8), np.zeros((0, 0), np.uint32))]),
            strict=True,
        )
        parts = [part for shard in made for part in shard.facts["parts"]]
        names = ("records", "rejected", "lost", "empty", "removed", "bytes")
        rejected = [
            line
            for shard in made
            for line in (shard.folder / "rejected.jsonl").read_text().splitlines()
        ]
        converted = sum((Counter(p.get("converted", {})) for p in parts), Counter[str]())
        return cls(
            shards,
            index=np.concatenate(index),
            rows=np.concatenate(rows),
            ids=np.concatenate(ids),
            sketches=list(sketches) if chunks else [],
            counts={"files": len(snapshot.files)}
            | {name: sum(p.get(name, 0) for p in parts) for name in names},
            size=sum(part.size for part in snapshot.parts),
            converted=dict(sorted(converted.items())),
            rejected=rejected,
        )

    def divided(self, one: int, codec: Codec, holdout: float) -> Table:
        """Return a table of two documents: document `one` up to a cut, and from there on."""
        shard, first, length, units = (int(n) for n in self.index[one, :COLUMNS])
        values = self.shards[shard].array("values")[first : first + length]
        head = cut(values, codec, holdout)
        tail = units - round(units * head / length)
        if codec.unit == "byte":
            tail = len(codec.decode(values[head:], (length - head,)).encode(errors="replace"))
        index = [
            [shard, first, head, units - tail, head],
            [shard, first + head, length - head, tail, length - head],
        ]
        return replace(self, index=np.array(index), ids=self.ids[[one, one]], cut=head)

    def origin(self, i: int) -> str:
        """Return where document i came from, e.g. "news.jsonl:17"."""
        return self.shards[int(self.index[i, 0])].origin(int(self.rows[i]))


def _parts(shard: Shard) -> Iterator[tuple[str, range]]:
    """Yield each part of a shard with its documents' numbers."""
    first = 0
    for key, part in zip(shard.facts["keys"], shard.facts["parts"], strict=True):
        yield key, range(first, first + part["documents"])
        first += part["documents"]


def _joined(ranges: Iterable[tuple[int, range]]) -> Iterator[tuple[int, range]]:
    """Yield ranges of documents of one shard that follow each other, as one.

    Empty ones left out.
    """
    last: tuple[int, range] | None = None
    for number, rows in ranges:
        if last is not None and (number, rows.start) == (last[0], last[1].stop):
            last = number, range(last[1].start, rows.stop)
            continue
        if last is not None and last[1]:
            yield last
        last = number, rows
    if last is not None and last[1]:
        yield last


def _chunk(shard: Shard, number: int, rows: range) -> tuple[Ints, Ints, Any, Any]:
    """Index, rows, ids and sketches of some documents of a shard."""
    inside = slice(rows.start, rows.stop)
    lengths = np.asarray(shard.array("lengths"))
    firsts = np.cumsum(lengths) - lengths
    facts = [np.full(len(rows), number), firsts[inside], lengths[inside]]
    facts.append(shard.array("units")[inside])
    index = np.concatenate([np.stack(facts, axis=1), shard.array("grids")[inside]], axis=1)
    ids = np.asarray(shard.array("ids")[inside])
    return index, np.arange(rows.start, rows.stop), ids, shard.array("sketches")[inside]
