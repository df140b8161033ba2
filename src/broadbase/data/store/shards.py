"""Shards: parts of a source, cleaned, sketched and encoded, each on its own and once.

A shard is a function of its parts' content, the codec and nothing else, and is written in full or
not at all. So shards may be made in any order, by any number of processes or machines, and a killed
`prepare` goes on with those that are missing.

ID/shard.json                    its parts, counts and hashes
ID/rejected.jsonl                records it could not take
ID/values.npy                    the values of all documents, end to end
ID/weights.npy                   how much each is a target, where the modality says so
ID/{lengths,units,grids}.npy     by document
ID/ids.npy                       by document: 16 bytes of its content's (or its key's) SHA-256
ID/sketches.npy                  by document: MinHash of its pieces (Broder 1997); all ones: none
ID/origins.npy, origin_ends.npy  by document: where it came from, e.g. "news.jsonl:17"
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from broadbase.core.codec import Codec
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.files import draft_folder, write_json
from broadbase.core.sources import Record, Reject
from broadbase.data.identity import identity, size_of
from broadbase.data.store.columns import Column
from broadbase.data.store.ownership import is_shard
from broadbase.data.store.requests import ShardTask
from broadbase.data.store.sketches import NONE, SKETCH, sketch
from broadbase.data.store.store import Pair, check_files, file_hashes, read_array, read_facts

BATCH, SIZE = 256, 1 << 20  # records sketched at once, and about their bytes
PIECES = 1 << 17  # shingles that are sketched at once
NAME = re.compile("[0-9a-f]{16}")  # of a shard's folder
ARRAYS = ("values", "lengths", "units", "grids", "ids", "sketches", "origins", "origin_ends")
Counts = dict[str, Any]


class PartFacts(TypedDict):
    """What shard.json says of a part."""

    records: int
    rejected: int
    empty: int
    removed: int
    documents: int
    bytes: int
    lost: NotRequired[int]
    converted: NotRequired[dict[str, int]]


class ShardFacts(TypedDict):
    """What shard.json must hold; names of files may be no UTF-8, so that they are not typed."""

    keys: list[Any]
    parts: list[PartFacts]
    hashes: dict[str, Pair]
    codec: NotRequired[str]


def write_shard(task: ShardTask) -> Path:
    """Make one shard; ResourceError where the disk refuses, with nothing half-written left."""
    codec = task.modality.load(task.folder / "codec")
    with (
        draft_folder(task.target, is_shard) as draft,
        _Shard(draft, codec, task) as shard,
    ):
        shard.read()
    return task.target


def codec_digest(folder: Path) -> str:
    """Return the SHA-256 of a codec as it lies on disk."""
    codec_hash: str = add_files(hashlib.sha256(), folder).hexdigest()
    return codec_hash


def add_files(digest: Any, folder: Path) -> Any:
    """Return a digest that has been fed with the names and contents of a folder's files."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest


@dataclass
class _Kept:
    """A document of a shard."""

    raw: Any
    origin: str
    digest: bytes
    length: int = 0
    units: int = 0
    grid: tuple[int, ...] = ()


@dataclass
class _Shard:
    folder: Path
    codec: Codec
    task: ShardTask

    def __enter__(self) -> Self:
        self.columns: dict[str, Column] = {}
        self.rejected = (self.folder / "rejected.jsonl").open("w")
        self.origin_end = 0
        names = ("records", "rejected", "empty", "removed", "documents", "bytes", "lost")
        self.done: list[Counts] = [
            {"part": vars(part), **dict.fromkeys(names, 0), "converted": Counter()}
            for part in self.task.parts
        ]
        return self

    def read(self) -> None:
        """Read, clean, sketch and encode all parts."""
        parts = zip(self.done, self.task.parts, strict=True)
        for batch in _batches((c, r) for c, part in parts for r in self.task.source.read(part)):
            self._keep([kept for counts, item in batch for kept in self._encoded(item, counts)])

    def _encoded(self, record: Record | Reject, counts: Counts) -> Iterator[_Kept]:
        """Yield the document of a record, its values written.

        Nothing where it is rejected or removed.
        """
        if isinstance(record, Reject):
            self._reject(record, counts)
            return
        modality, before = self.task.modality, self.values
        try:
            raw = modality.clean(record.raw)
            digest = identity(record, raw, self.task.paired)
            removed = digest.hex() in self.task.removed
            kept = None if removed else self._values(_Kept(raw, record.origin, digest))
        except BroadbaseError:
            raise
        except ValueError as error:
            for name in {"values", "weights"} & self.columns.keys():
                self.columns[name].cut(before)
            self._reject(Reject(record.origin, str(error)), counts)
            return
        counts["records"] += 1
        counts["converted"].update((*record.converted, *modality.conversions(record.raw)))
        if kept is None:
            counts["removed"] += 1
            return
        counts["documents"] += 1
        counts["bytes"] += size_of(raw)
        yield kept

    @property
    def values(self) -> int:
        """Return how many are written."""
        return self.columns["values"].rows if "values" in self.columns else 0

    def _values(self, kept: _Kept) -> _Kept:
        """Encode and write a document; a long one chunk by chunk."""
        for chunk in self.task.modality.chunks(kept.raw):
            sample = self.codec.encode(chunk)
            self._append("values", sample.values)
            if self.task.modality.weighted:
                weight = np.ones(len(sample.values)) if sample.weight is None else sample.weight
                self._append("weights", weight)
            kept.grid = (kept.length + len(sample.values),) if kept.length else sample.grid
            kept.length += len(sample.values)
            kept.units += sample.units
        return kept

    def _keep(self, kept: Sequence[_Kept]) -> None:
        if not kept:
            return
        marks = [each.origin.encode(errors="surrogateescape") for each in kept]
        ends = self.origin_end + np.cumsum([len(mark) for mark in marks])
        self.origin_end = int(ends[-1])
        digests = b"".join(each.digest for each in kept)
        self._append("lengths", np.array([each.length for each in kept]))
        self._append("units", np.array([each.units for each in kept]))
        self._append("grids", np.array([each.grid for each in kept]))
        self._append("ids", np.frombuffer(digests, np.uint8).reshape(-1, 16))
        self._append("sketches", self._sketches([each.raw for each in kept]))
        self._append("origins", np.frombuffer(b"".join(marks), np.uint8))
        self._append("origin_ends", ends)

    def _sketches(self, raws: Sequence[Any]) -> NDArray[np.uint32]:
        """Return the sketch of each record, [records, SKETCH]: the least of its chunks'."""
        minima = np.full((len(raws), SKETCH), NONE, dtype=np.uint32)
        rows: list[int] = []
        pieces: list[Sequence[str]] = []
        many = 0
        for row, raw in enumerate(raws):
            for chunk in self.task.modality.chunks(raw):
                if many > PIECES:
                    np.minimum.at(minima, rows, sketch(pieces))
                    rows, pieces, many = [], [], 0
                rows.append(row)
                pieces.append(self.task.modality.shingles(chunk))
                many += len(pieces[-1])
        np.minimum.at(minima, rows, sketch(pieces))
        return minima

    def _append(self, name: str, array: NDArray[Any]) -> None:
        if name not in self.columns:
            self.columns[name] = Column(self.folder / f"{name}.npy", array)
        self.columns[name].append(array)

    def _reject(self, reject: Reject, counts: Counts) -> None:
        counts["records"] += reject.records
        counts["empty" if reject.empty else "rejected"] += reject.records
        counts["lost"] += reject.lost
        line = {"origin": reject.origin, "reason": reject.reason}
        self.rejected.write(json.dumps(line) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType) -> None:
        self.rejected.close()
        for column in self.columns.values():
            column.close()
        if kind is None:
            names = ["rejected.jsonl", *(f"{name}.npy" for name in self.columns)]
            facts = {
                "keys": self.task.keys,
                "parts": self.done,
                "hashes": file_hashes(self.folder, names),
                "codec": codec_digest(self.task.folder / "codec"),
            }
            write_json(self.folder / "shard.json", facts)


def _batches(records: Iterable[tuple[Counts, Record | Reject]]) -> Iterator[list[Any]]:
    batch: list[tuple[Counts, Record | Reject]] = []
    size = 0
    for counts, record in records:
        batch.append((counts, record))
        size += size_of(record.raw) if isinstance(record, Record) else 0
        if len(batch) == BATCH or size >= SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class Shard:
    """A finished shard, memory-mapped."""

    folder: Path
    facts: Mapping[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def array(self, name: str) -> NDArray[Any]:
        """Return one of ARRAYS, opened once."""
        if name not in self.arrays:
            self.arrays[name] = read_array(self.folder / f"{name}.npy")
        return self.arrays[name]

    @property
    def documents(self) -> int:
        """Return how many documents it holds."""
        return sum(part["documents"] for part in self.facts["parts"])

    def origin(self, i: int) -> str:
        """Return where document i came from, e.g. "news.jsonl:17"."""
        ends, origins = self.array("origin_ends"), self.array("origins")
        encoded = bytes(origins[int(ends[i - 1]) if i else 0 : int(ends[i])])
        return encoded.decode(errors="surrogateescape")


def finished(store: Path) -> Iterator[Shard]:
    """Yield the shards that a store has; a damaged one is none."""
    for folder in sorted((store / "shards").glob("*")):
        if NAME.fullmatch(folder.name) and (shard := _opened(folder)) is not None:
            yield shard


def _opened(folder: Path) -> Shard | None:
    """Return the shard in a folder; None where its files are not all there, or of another size."""
    try:
        shard = Shard(folder, read_facts(folder / "shard.json", ShardFacts))
        check_files(folder, shard.facts["hashes"], verify=False)
        columns = (len(shard.array("lengths")), len(shard.array("ids"))) if shard.documents else ()
    except (DataError, OSError, ValueError):
        return None
    fits = len(shard.facts["keys"]) == len(shard.facts["parts"])
    if shard.documents and "origins.npy" not in shard.facts["hashes"]:
        return None  # of format 3 or before: it is made again
    return shard if fits and all(n == shard.documents for n in columns) else None
