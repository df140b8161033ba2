"""Shards: parts of a source, cleaned, sketched and encoded, each on its own and once.

A shard is a function of its parts' content, the codec and nothing else, and is written whole or not
at all. So shards may be made in any order, by any number of processes or machines, and a killed
`prepare` goes on with those that are missing.

ID/shard.json                    its parts, counts and hashes
ID/rejected.jsonl                records it could not take
ID/values.npy                    the values of all documents, end to end
ID/{lengths,units,grids}.npy     by document
ID/ids.npy                       by document: 16 bytes of its content's (or its key's) SHA-256
ID/sketches.npy                  by document: MinHash of its pieces (Broder 1997); all ones: none
ID/places.npy, place_ends.npy    by document: where it came from
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from broadbase.core.contracts import Codec, ModalityConfig, Part, Record, Reject, SourceConfig
from broadbase.core.errors import BroadbaseError, ResourceError
from broadbase.data.store import file_hashes, read_array

SKETCH = 126  # minima of a sketch: 21 bands of 6
NONE = np.iinfo(np.uint32).max  # every minimum of a document without pieces
BATCH, SIZE = 256, 1 << 20  # records sketched at once, and about their bytes
ARRAYS = ("values", "lengths", "units", "grids", "ids", "sketches", "places", "place_ends")


@dataclass(frozen=True)
class Wanted:
    """A source and what its records are."""

    source: SourceConfig
    modality: ModalityConfig
    name: str  # of the modality in the run: sources of one name share a codec
    paired: bool = False  # documents are known by their records' keys, not by their content


@dataclass(frozen=True)
class ShardTask:
    """What one shard is made of; says everything a worker needs, also on another machine."""

    folder: Path  # the store
    source: SourceConfig
    modality: ModalityConfig
    parts: tuple[Part, ...]
    digests: tuple[str, ...]  # of the parts' files
    removed: frozenset[str] = frozenset()  # ids that must not come back
    paired: bool = False

    @property
    def keys(self) -> list[str]:
        """What tells each part from all others, its content included."""
        digests = zip(self.parts, self.digests, strict=True)
        return [part_key(part, digest, self.paired) for part, digest in digests]

    @property
    def target(self) -> Path:
        """Where the shard will lie."""
        name = hashlib.sha256(json.dumps(self.keys).encode()).hexdigest()[:16]
        return self.folder / "shards" / name

    @property
    def size(self) -> int:
        """Bytes of source that it reads."""
        return sum(part.size for part in self.parts)


def part_key(part: Part, digest: str, paired: bool = False) -> str:
    """A part's name, place and content in one string, and what its documents are known by."""
    return f"{part.name}@{part.start}-{part.stop}:{digest}" + (":paired" if paired else "")


def write_shard(task: ShardTask) -> Path:
    """Make one shard; ResourceError where the disk refuses, with nothing half-written left."""
    target = task.target
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    codec = task.modality.load(task.folder / "codec")
    try:
        draft.mkdir(parents=True)
        with _Shard(draft, codec, task) as shard:
            for part in task.parts:
                shard.part(part)
        if target.exists():
            shutil.rmtree(target)
        draft.replace(target)
    except OSError as error:
        raise ResourceError(
            f"{target.parent} cannot be written: {error.strerror or error}; free space or"
            " permissions there, or give another folder"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def digest_of(raw: Any) -> bytes:
    """The SHA-256 of a record's content."""
    if isinstance(raw, str):
        raw = raw.encode(errors="surrogatepass")
    data = raw if isinstance(raw, bytes) else np.ascontiguousarray(np.asarray(raw)).tobytes()
    return hashlib.sha256(data).digest()


def identity(record: Record, raw: Any, paired: bool) -> bytes:
    """A document's id, 16 bytes: of its content, or of its key where it is one of a pair.

    The first half, which decides the side of the split, is its group's where it has one.
    """
    key = record.key or record.place
    own = digest_of(key) if paired else digest_of(raw)
    return (digest_of(record.group)[:8] if record.group else own[:8]) + own[8:16]


def size_of(raw: Any) -> int:
    """About how many bytes a record's content takes."""
    return len(raw) if isinstance(raw, str | bytes) else np.asarray(raw).nbytes


@dataclass
class _Shard:
    folder: Path
    codec: Codec
    task: ShardTask
    done: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.columns: dict[str, _Column] = {}
        self.rejected = (self.folder / "rejected.jsonl").open("w")
        self.place_end = 0
        return self

    def part(self, part: Part) -> None:
        """Read, clean, sketch and encode one part."""
        counts = dict.fromkeys(("records", "rejected", "empty", "removed", "documents", "bytes"), 0)
        modality, converted = self.task.modality, Counter[str]()
        for batch in _batches(self.task.source.read(part)):
            counts["records"] += len(batch)
            good: list[tuple[Record, Any]] = []
            for record in batch:
                if isinstance(record, Reject):
                    self._reject(record, counts)
                    continue
                try:
                    good.append((record, modality.clean(record.raw)))
                    converted.update((*record.converted, *modality.conversions(record.raw)))
                except BroadbaseError:
                    raise
                except ValueError as error:
                    self._reject(Reject(record.place, str(error)), counts)
            self._documents(good, counts)
        self.done.append({"part": vars(part), **counts, "converted": dict(converted)})

    def _documents(self, good: Sequence[tuple[Record, Any]], counts: dict[str, int]) -> None:
        kept = []
        for record, raw in good:
            place, digest = record.place, identity(record, raw, self.task.paired)
            if digest.hex() in self.task.removed:
                counts["removed"] += 1
                continue
            try:
                sample = self.codec.encode(raw)
            except ValueError as error:
                self._reject(Reject(place, str(error)), counts)
                continue
            counts["documents"] += 1
            counts["bytes"] += size_of(raw)
            kept.append((raw, place, digest, sample))
        if not kept:
            return
        raws, places, digests, samples = zip(*kept, strict=True)
        marks = [place.encode() for place in places]
        ends = self.place_end + np.cumsum([len(mark) for mark in marks])
        self.place_end = int(ends[-1])
        self._append("values", np.concatenate([s.values for s in samples]))
        self._append("lengths", np.array([len(s.values) for s in samples]))
        self._append("units", np.array([s.units for s in samples]))
        self._append("grids", np.array([s.grid for s in samples]))
        self._append("ids", np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16))
        self._append("sketches", sketch([self.task.modality.pieces(raw) for raw in raws]))
        self._append("places", np.frombuffer(b"".join(marks), np.uint8))
        self._append("place_ends", ends)

    def _append(self, name: str, array: NDArray[Any]) -> None:
        if name not in self.columns:
            self.columns[name] = _Column(self.folder / f"{name}.npy", array)
        self.columns[name].append(array)

    def _reject(self, reject: Reject, counts: dict[str, int]) -> None:
        counts["empty" if reject.empty else "rejected"] += 1
        line = {"place": reject.place, "reason": reject.reason}
        self.rejected.write(json.dumps(line) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType) -> None:
        self.rejected.close()
        for column in self.columns.values():
            column.close()
        if kind is None:
            arrays = [f"{name}.npy" for name in self.columns]
            facts = {
                "keys": self.task.keys,
                "parts": self.done,
                "hashes": file_hashes(self.folder, arrays),
            }
            (self.folder / "shard.json").write_text(json.dumps(facts))


def _batches(records: Iterable[Record | Reject]) -> Iterator[list[Record | Reject]]:
    batch: list[Record | Reject] = []
    size = 0
    for record in records:
        batch.append(record)
        size += size_of(record.raw) if isinstance(record, Record) else 0
        if len(batch) == BATCH or size >= SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Column:
    """An array on disk that grows at its end; ids below 65,536 take two bytes when it closes."""

    HEADER = 128

    def __init__(self, path: Path, like: NDArray[Any]) -> None:
        self.path, self.shape, self.rows, self.largest = path, like.shape[1:], 0, 0
        self.dtype = {"i": np.dtype("<u4"), "f": np.dtype("<f4")}.get(like.dtype.kind, like.dtype)
        if path.stem in ("lengths", "units", "grids", "place_ends"):
            self.dtype = np.dtype("<i8")
        self.file = path.open("wb")
        self.file.write(b"\0" * self.HEADER)

    def append(self, array: NDArray[Any]) -> None:
        self.rows += len(array)
        if self.dtype == np.dtype("<u4") and array.size:
            self.largest = max(self.largest, int(array.max()))
        self.file.write(np.ascontiguousarray(array, dtype=self.dtype).tobytes())

    def close(self) -> None:
        self._header(self.dtype)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if self.path.stem == "values" and self.dtype == np.dtype("<u4") and self.largest < 1 << 16:
            self._narrow()

    def _header(self, dtype: np.dtype[Any]) -> None:
        """The .npy header (format 1.0), padded to a fixed size so that it can be written last."""
        facts = {"descr": dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        text = repr(facts).encode()
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\x01\x00" + (self.HEADER - 10).to_bytes(2, "little"))
        self.file.write(text.ljust(self.HEADER - 11) + b"\n")

    def _narrow(self) -> None:
        wide, step = read_array(self.path), 1 << 22
        narrow = self.path.with_suffix(".u2")
        with narrow.open("wb") as self.file:
            self._header(np.dtype("<u2"))
            for i in range(0, len(wide), step):
                self.file.write(wide[i : i + step].astype("<u2").tobytes())
            self.file.flush()
            os.fsync(self.file.fileno())
        narrow.replace(self.path)


def sketch(pieces: Sequence[Sequence[str]]) -> NDArray[np.uint32]:
    """MinHash of each record's pieces, [records, SKETCH]: the share of equal minima estimates the
    Jaccard similarity of two sets of pieces (Broder 1997)."""
    found = np.full((len(pieces), SKETCH), NONE, dtype=np.uint32)
    some = [i for i, each in enumerate(pieces) if each]
    if some:
        found[some] = RMinHash.digests_from_token_sets([pieces[i] for i in some], SKETCH, 0)
    return found


@dataclass(frozen=True)
class Shard:
    """A finished shard, memory-mapped."""

    folder: Path
    facts: Mapping[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def array(self, name: str) -> NDArray[Any]:
        """One of ARRAYS, opened once."""
        if name not in self.arrays:
            self.arrays[name] = read_array(self.folder / f"{name}.npy")
        return self.arrays[name]

    @property
    def documents(self) -> int:
        """How many documents it holds."""
        return sum(part["documents"] for part in self.facts["parts"])

    def place(self, i: int) -> str:
        """Where document i came from."""
        ends, places = self.array("place_ends"), self.array("places")
        return bytes(places[int(ends[i - 1]) if i else 0 : int(ends[i])]).decode()


def finished(store: Path) -> Iterator[Shard]:
    """The shards that a store has; drafts of a killed process are deleted."""
    for folder in sorted((store / "shards").glob("*")) if (store / "shards").exists() else ():
        facts = folder / "shard.json"
        if folder.name.endswith(".draft") or not facts.exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            yield Shard(folder, json.loads(facts.read_text()))
