"""A store: the records of a source as numbers on disk, split, counted and fingerprinted.

FOLDER/manifest.json             what is in it, from what, with hashes
FOLDER/rejected.jsonl            every record left out, with place and reason
FOLDER/SPLIT/values.npy          the values of all documents, end to end
FOLDER/SPLIT/{offsets,grids,units}.npy
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.core.contracts import Codec, Record, Reject, Sample, SourceConfig
from broadbase.core.errors import DataError, ResourceError

FORMAT = 1
SPLITS = ("train", "validation")
ARRAYS = ("values", "offsets", "grids", "units")


@dataclass(frozen=True)
class Split:
    """Documents of one side of a store, memory-mapped: values[offsets[i]:offsets[i+1]] is one."""

    values: NDArray[Any]  # [total] or [total, K]
    offsets: NDArray[np.int64]  # [documents + 1]
    grids: NDArray[np.int64]  # [documents, axes]
    units_each: NDArray[np.int64]  # [documents]
    start: NDArray[Any]
    end: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def targets(self) -> int:
        """Places that are predicted in one epoch: every value, and every end."""
        return int(self.offsets[-1]) + (len(self) if self.end is not None else 0)

    @property
    def units(self) -> int:
        """The size of all documents in the codec's unit."""
        return int(self.units_each.sum())

    def document(self, i: int) -> NDArray[Any]:
        """Document i as the model sees it: start, values, end."""
        values = self.values[self.offsets[i] : self.offsets[i + 1]]
        parts = [self.start[None], values]
        if self.end is not None:
            parts.append(self.end[None])
        return np.concatenate(parts)


@dataclass(frozen=True)
class Store:
    """A prepared source."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def unit(self) -> str:
        """What sizes are counted in: bytes, pixels."""
        return str(self.manifest["unit"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all arrays: equal for equal data, codec and split."""
        return str(self.manifest["fingerprint"])

    def summary(self) -> str:
        """One line: how many records, what became of them, how long they are."""
        c, split = self.manifest["counts"], self.split("train")
        lost = f"{c['duplicates']:,} duplicates, {c['rejected']:,} rejected"
        size = f"{split.units:,} {self.unit}s in {split.targets:,} places"
        return f"{c['records']:,} records ({lost}), {c['train']:,} to train on: {size}"

    def split(self, name: str) -> Split:
        """The documents of "train" or "validation"."""
        arrays = {
            a: np.load(self.folder / name / f"{a}.npy", mmap_mode="r", allow_pickle=False)
            for a in ARRAYS
        }
        end = self.manifest["end"]
        dtype = arrays["values"].dtype if arrays["values"].dtype.kind == "f" else np.int64
        return Split(
            arrays["values"],
            arrays["offsets"],
            arrays["grids"],
            arrays["units"],
            np.array(self.manifest["start"], dtype=dtype),
            None if end is None else np.array(end, dtype=dtype),
        )


def training_records(sources: Iterable[SourceConfig], holdout: float) -> Iterator[Any]:
    """The raw records that fall on the training side: what codecs are fitted on."""
    for source in sources:
        for record in source.records():
            if isinstance(record, Record) and not _held_out(_digest(record.raw), holdout):
                yield record.raw


def prepare(
    source: SourceConfig, codec: Codec, folder: Path, *, holdout: float, rejects: float = 0.01
) -> Store:
    """Read, check, deduplicate, split and encode a source into a new store at `folder`.

    A record's content decides its side, so duplicates never sit on both; exact ones are kept once.
    DataError where more than the share `rejects` cannot be used or a side is empty; ResourceError
    where the disk refuses. Nothing half-written stays behind.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
        writers = {name: _Writer() for name in SPLITS}
        counts, rejected = _read(source, codec, writers, holdout)
        _check(counts, rejected, rejects, writers, folder)
        (draft / "rejected.jsonl").write_text(_lines(rejected))
        hashes = {}
        for name, writer in writers.items():
            hashes[name] = writer.write(draft / name)
        manifest = {
            "format": FORMAT,
            "source": source.tree(),
            "files": source.fingerprint(),
            "unit": codec.unit,
            "start": codec.start.tolist(),
            "end": None if codec.end is None else codec.end.tolist(),
            "counts": counts,
            "arrays": hashes,
            "fingerprint": hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
        }
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1))
        _settle(draft, folder)
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror or error}; free space or permissions"
            " there, or give another --out"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return open_store(folder)


def open_store(folder: Path, *, verify: bool = False, source: SourceConfig | None = None) -> Store:
    """The store at `folder`; DataError where it is missing, newer than this program, or damaged.

    `verify` reads every byte; `source` is compared, file by file, with what the store was made of.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; prepare the data again") from None
    if manifest["format"] > FORMAT:
        raise DataError(
            f"{path} has format {manifest['format']}, this program reads up to {FORMAT}; upgrade"
            " Broadbase"
        )
    for split, arrays in manifest["arrays"].items():
        for name, (size, digest) in arrays.items():
            file = folder / split / f"{name}.npy"
            if not file.exists() or file.stat().st_size != size:
                raise DataError(f"{file} is missing or cut short; prepare the data again")
            if verify and _file_digest(file) != digest:
                raise DataError(f"{file} was altered since it was written; prepare the data again")
    if source is not None:
        _unchanged(folder, manifest["files"], source.fingerprint())
    return Store(folder, manifest)


def _unchanged(folder: Path, old: dict[str, str], new: dict[str, str]) -> None:
    changes = [f"{n} is gone" for n in old if n not in new]
    changes += [f"{n} is new" for n in new if n not in old]
    changes += [f"{n} changed" for n in old if n in new and old[n] != new[n]]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise DataError(
            f"the data changed since {folder} was prepared: {', '.join(changes[:3])}{more}; undo"
            " that, or start a new run"
        )


class _Writer:
    """Collects the encoded documents of one side."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def write(self, folder: Path) -> dict[str, tuple[int, str]]:
        folder.mkdir()
        lengths = [len(s.values) for s in self.samples]
        values = np.concatenate([s.values for s in self.samples])
        if values.dtype.kind in "iu":
            values = values.astype(np.min_scalar_type(int(values.max(initial=0))))
        arrays = {
            "values": values,
            "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "grids": np.array([s.grid for s in self.samples], dtype=np.int64),
            "units": np.array([s.units for s in self.samples], dtype=np.int64),
        }
        for name in ARRAYS:
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, arrays[name], allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        files = {name: folder / f"{name}.npy" for name in ARRAYS}
        return {name: (f.stat().st_size, _file_digest(f)) for name, f in files.items()}


def _read(
    source: SourceConfig, codec: Codec, writers: dict[str, _Writer], holdout: float
) -> tuple[dict[str, int], list[Reject]]:
    seen: set[bytes] = set()
    rejected: list[Reject] = []
    counts = dict.fromkeys(("records", "duplicates", "rejected", "train", "validation"), 0)
    for record in source.records():
        counts["records"] += 1
        if isinstance(record, Reject):
            rejected.append(record)
            continue
        digest = _digest(record.raw)
        if digest in seen:
            counts["duplicates"] += 1
            continue
        seen.add(digest)
        try:
            sample = codec.encode(record.raw)
        except ValueError as error:
            rejected.append(Reject(record.place, str(error)))
            continue
        side = "validation" if _held_out(digest, holdout) else "train"
        counts[side] += 1
        writers[side].samples.append(sample)
    counts["rejected"] = len(rejected)
    return counts, rejected


def _check(
    counts: dict[str, int],
    rejected: list[Reject],
    budget: float,
    writers: dict[str, _Writer],
    folder: Path,
) -> None:
    if rejected and len(rejected) > budget * counts["records"]:
        path = folder.with_name(f"{folder.name}.rejected.jsonl")
        path.write_text(_lines(rejected))
        first = "\n  ".join(f"{r.place}: {r.reason}" for r in rejected[:3])
        raise DataError(
            f"{len(rejected)} of {counts['records']} records cannot be used, more than the"
            f" {budget:.1%} allowed (data.rejects):\n  {first}\nall of them are in {path}"
        )
    for side, writer in writers.items():
        if not writer.samples:
            kept = counts["train"] + counts["validation"]
            raise DataError(
                f"none of the {kept} records fell on the {side} side; give more records or another"
                " data.holdout"
            )


def _settle(draft: Path, folder: Path) -> None:
    """Put a finished draft in its place, and make that last."""
    if folder.exists():
        shutil.rmtree(folder)
    draft.replace(folder)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lines(rejected: list[Reject]) -> str:
    return "".join(json.dumps({"place": r.place, "reason": r.reason}) + "\n" for r in rejected)


def _digest(raw: Any) -> bytes:
    if isinstance(raw, str):
        raw = raw.encode(errors="surrogatepass")
    data = raw if isinstance(raw, bytes) else np.ascontiguousarray(np.asarray(raw)).tobytes()
    return hashlib.sha256(data).digest()


def _held_out(digest: bytes, holdout: float) -> bool:
    return int.from_bytes(digest[:8], "big") < holdout * 2**64


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
