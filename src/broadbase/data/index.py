"""The index of a store: which documents of its shards count, on which side, and why others do not.

Legend: N documents of a source.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.core.contracts import Codec, SourceConfig
from broadbase.core.errors import DataError
from broadbase.data.duplicates import clusters, estimates
from broadbase.data.shards import Shard, Wanted, finished, part_key
from broadbase.data.store import COLUMNS, FORMAT, SPLITS, file_hashes

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Sides = Mapping[str, Flags]  # side: which of the N documents it has


def join(
    wanted: Mapping[str, Wanted],
    folder: Path,
    codec: Codec,
    *,
    holdout: float,
    rejects: float,
    similarity: float,
) -> None:
    """Index the shards of all sources of a modality at once.

    Of each cluster of duplicates the first document stays, and its content decides the side. So
    the result depends on the documents alone. DataError where more than `rejects` of a source's
    records cannot be used, or a side is empty.
    """
    tables = {name: _Table.of(w, folder / name) for name, w in wanted.items()}
    for name, table in tables.items():
        _within_budget(table, rejects, folder / name)
    ids = np.concatenate([table.ids for table in tables.values()])
    sketches = [s for table in tables.values() for s in table.sketches]
    head, exact = clusters(ids, sketches, similarity)
    twins = np.flatnonzero(head != np.arange(len(ids)))
    alike = estimates(np.stack([head[twins], twins], axis=1), sketches)
    first = 0
    for name, table in tables.items():
        last = first + len(table.ids)
        keep = head[first:last] == np.arange(first, last)
        held = held_out(table.ids, holdout)
        sides = {"train": keep & ~held, "validation": keep & held}
        mine = (twins >= first) & (twins < last)
        lines = [
            _twin(tables, ids, int(head[twin]), int(twin), float(share), exact)
            for twin, share in zip(twins[mine], alike[mine], strict=True)
        ]
        same = int((exact[twins[mine]] != twins[mine]).sum())
        counts = {
            **table.counts,
            "exact": same,
            "near": int(mine.sum()) - same,
            **{side: int(chosen.sum()) for side, chosen in sides.items()},
        }
        _write(folder / name, wanted[name], codec, table, sides, counts, lines)
        first = last


def held_out(ids: NDArray[np.uint8], holdout: float) -> Flags:
    """Which of some contents' hashes [N,16] fall on the validation side: [N]."""
    number = np.ascontiguousarray(ids[:, :8]).view(">u8").ravel()
    chosen: Flags = number < np.uint64(min(holdout * 2.0**64, 2.0**64 - 2048))
    return chosen


def digests(source: SourceConfig) -> dict[str, str]:
    """The content's hash of each part's file, or one of everything for a source in one part."""
    found = source.fingerprint()
    whole = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return {part.name: found.get(part.name, whole) for part in source.parts()}


@dataclass(frozen=True)
class _Table:
    """All documents of a source in the order of its parts, whatever shards they lie in."""

    shards: list[Shard]
    index: Ints  # [N, COLUMNS + axes]: shard, first value, length, units, grid
    rows: Ints  # [N] number in the shard
    ids: NDArray[np.uint8]  # [N,16]
    sketches: list[NDArray[np.uint32]]  # together [N,SKETCH]
    counts: dict[str, int]
    converted: dict[str, int]
    rejected: list[str]

    @classmethod
    def of(cls, wanted: Wanted, store: Path) -> _Table:
        found = digests(wanted.source)
        parts = wanted.source.parts()
        keys = [part_key(part, found[part.name], wanted.paired) for part in parts]
        order = {key: i for i, key in enumerate(keys)}
        shards = sorted(finished(store), key=lambda shard: order[shard.facts["keys"][0]])
        where = {key: (n, rows) for n, s in enumerate(shards) for key, rows in _parts(s)}
        chunks = [_chunk(shards[n], n, rows) for n, rows in _joined(where[key] for key in keys)]
        empty = (np.zeros((0, COLUMNS + 1), np.int64), np.zeros(0, np.int64))
        index, rows, ids, sketches = zip(
            *(chunks or [(*empty, np.zeros((0, 16), np.uint8), np.zeros((0, 0), np.uint32))]),
            strict=True,
        )
        made = [part for shard in shards for part in shard.facts["parts"]]
        sums = {
            k: sum(p[k] for p in made) for k in ("records", "rejected", "empty", "removed", "bytes")
        }
        rejected = [
            line
            for shard in shards
            for line in (shard.folder / "rejected.jsonl").read_text().splitlines()
        ]
        converted = sum((Counter(p.get("converted", {})) for p in made), Counter[str]())
        counts = {"files": len(wanted.source.fingerprint()), **sums}
        return cls(
            shards,
            index=np.concatenate(index),
            rows=np.concatenate(rows),
            ids=np.concatenate(ids),
            sketches=list(sketches) if chunks else [],
            counts=counts,
            converted=dict(sorted(converted.items())),
            rejected=rejected,
        )

    def place(self, i: int) -> str:
        """Where document i came from."""
        return self.shards[int(self.index[i, 0])].place(int(self.rows[i]))


def _parts(shard: Shard) -> Iterator[tuple[str, range]]:
    """Each part of a shard with its documents' numbers."""
    first = 0
    for key, part in zip(shard.facts["keys"], shard.facts["parts"], strict=True):
        yield key, range(first, first + part["documents"])
        first += part["documents"]


def _joined(ranges: Iterable[tuple[int, range]]) -> Iterator[tuple[int, range]]:
    """Ranges of documents of one shard that follow each other, as one; empty ones left out."""
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


def _within_budget(table: _Table, budget: float, store: Path) -> None:
    path, counts = store / "rejected.jsonl", table.counts
    path.write_text("".join(line + "\n" for line in table.rejected))
    if counts["rejected"] > budget * counts["records"]:
        rows = [row for row in map(json.loads, table.rejected) if "empty" not in row["reason"]][:3]
        first = "\n  ".join(f"{row['place']}: {row['reason']}" for row in rows)
        raise DataError(
            f"{counts['rejected']} of {counts['records']} records cannot be used, more than the"
            f" {budget:.1%} allowed (data.rejects):\n  {first}\nall of them are in {path}"
        )


def _twin(
    tables: Mapping[str, _Table], ids: Any, kept: int, twin: int, share: float, exact: Ints
) -> str:
    """What duplicates.jsonl says of a document that is left out."""

    def place(i: int) -> str:
        for table in tables.values():
            if i < len(table.ids):
                return table.place(i)
            i -= len(table.ids)
        raise AssertionError("a document of no table")

    row = {
        "place": place(twin),
        "id": bytes(ids[twin]).hex(),
        "kept": place(kept),
        "kept_id": bytes(ids[kept]).hex(),
        "similarity": 1.0 if exact[twin] == kept else round(share, 3),
    }
    return json.dumps(row)


def _write(
    store: Path,
    wanted: Wanted,
    codec: Codec,
    table: _Table,
    sides: Sides,
    counts: Mapping[str, int],
    duplicates: Sequence[str],
) -> None:
    """The index, then the manifest, which makes it count."""
    for side, chosen in sides.items():
        if not chosen.any():
            kept = counts["train"] + counts["validation"]
            raise DataError(
                f"none of the {kept} records fell on the {side} side; give more records or another"
                " data.holdout"
            )
    fingerprint = _fingerprint(table, sides, store / "codec")
    index = _index(store, table, sides, fingerprint)
    (store / "duplicates.jsonl").write_text("".join(line + "\n" for line in duplicates))
    names = [f"{index.name}/{path.name}" for path in sorted(index.iterdir())]
    hashes = {
        f"shards/{shard.folder.name}/{name}": facts
        for shard in table.shards
        for name, facts in shard.facts["hashes"].items()
    }
    manifest = {
        "format": FORMAT,
        "source": wanted.source.tree(),
        "modality": wanted.modality.tree(),
        "kind": wanted.name,
        "paired": wanted.paired,
        "licence": wanted.source.licence,
        "files": wanted.source.fingerprint(),
        "unit": codec.unit,
        "start": codec.start.tolist(),
        "end": None if codec.end is None else codec.end.tolist(),
        "counts": counts,
        "converted": table.converted,
        "index": index.name,
        "shards": [shard.folder.name for shard in table.shards],
        "hashes": {**hashes, **file_hashes(store, names)},
        "fingerprint": fingerprint,
    }
    draft = store / "manifest.draft"
    draft.write_text(json.dumps(manifest, indent=1))
    draft.replace(store / "manifest.json")
    for old in store.glob("index-*"):
        if old != index:
            shutil.rmtree(old)


def _index(store: Path, table: _Table, sides: Sides, fingerprint: str) -> Path:
    draft, index = store / ".index.draft", store / f"index-{fingerprint[:16]}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for side in SPLITS:
        for name, array in ((side, table.index), (f"{side}.ids", table.ids)):
            with (draft / f"{name}.npy").open("wb") as file:
                np.save(file, array[sides[side]], allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
    shutil.rmtree(index, ignore_errors=True)
    draft.replace(index)
    return index


def _fingerprint(table: _Table, sides: Sides, codec: Path) -> str:
    """SHA-256 over the documents' ids side by side, and the codec: independent of the shards."""
    digest = hashlib.sha256()
    for side in SPLITS:
        digest.update(table.ids[sides[side]].tobytes() + side.encode())
    for path in sorted(path for path in codec.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
