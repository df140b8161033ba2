"""A store: the records of a source as numbers on disk, split, counted and fingerprinted.

FOLDER/manifest.json             what is in it, from what, with hashes
FOLDER/rejected.jsonl            every record left out, with origin and reason
FOLDER/duplicates.jsonl          every record like another, with the one that was kept
FOLDER/codec/                    what turned records into numbers, e.g. tokenizer.json
FOLDER/shards/ID/                the encoded records (data/store/shards.py)
FOLDER/index-ID/SPLIT.npy        which of them a split has, in order
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.files import digest
from broadbase.core.sources import SourceConfig
from broadbase.data.store.documents import Split

FORMAT = 4
SPLITS = ("train", "validation")
AGAIN = "delete it and prepare the data again"

Hashes = Mapping[str, tuple[int, str]]  # of files: size, SHA-256
Pair = Annotated[list[int | str], Field(min_length=2, max_length=2)]  # JSON has no tuples


class Numbered(TypedDict):
    """What any manifest.json holds, of whatever format."""

    format: int


class Manifest(TypedDict):
    """What manifest.json must hold; names of files may be no UTF-8, so that they are not typed."""

    format: int
    source: dict[str, Any]
    modality: dict[str, Any]
    kind: str
    paired: bool
    licence: str
    files: dict[Any, Any]
    unit: str
    start: Any
    end: Any
    counts: dict[str, int]
    index: str
    shards: list[str]
    hashes: dict[str, Pair]
    fingerprint: str


def read_facts(path: Path, kind: type, remedy: str = AGAIN) -> Any:
    """Read a JSON file of the store's bookkeeping, of the type `kind` (a TypedDict, a list).

    DataError where it cannot be read, is damaged or holds something else.
    """
    try:
        facts = json.loads(path.read_bytes())
        _checked(kind).validate_python(facts, strict=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise DataError(f"{path} is damaged: {where}: {first['msg']}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged, it is no JSON: {error}; {remedy}") from None
    return facts


@dataclass(frozen=True)
class Store:
    """A prepared source."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def unit(self) -> str:
        """Return what sizes are counted in: bytes, pixels."""
        return str(self.manifest["unit"])

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the documents of both sides: equal for equal data and codec."""
        return str(self.manifest["fingerprint"])

    @property
    def left_out(self) -> dict[str, int]:
        """Return how many files of the data's folders no source of the run reads, by ending."""
        return dict(self.manifest.get("left_out", {}))

    @property
    def index(self) -> Path:
        """Return the folder of the splits."""
        return self.folder / str(self.manifest["index"])

    def summary(self) -> str:
        """Return one line: how many records, what became of them, how long they are."""
        c, split = self.manifest["counts"], self.split("train")
        lost = f"{c['exact']:,} exact and {c['near']:,} near duplicates, {c['rejected']:,} rejected"
        lost += f" ({c['lost']:,} bytes)" if c.get("lost") else ""
        lost += f", {c['empty']:,} empty" if c["empty"] else ""
        lost += f", {c['removed']:,} removed" if c.get("removed") else ""
        changed = self.manifest.get("converted", {})
        lost += "".join(f", {n:,} converted from {what}" for what, n in changed.items())
        size = f"{split.units:,} {self.unit}s in {split.targets:,} tokens"
        return f"{c['records']:,} records ({lost}), {c['train']:,} to train on: {size}"

    def split(self, name: str) -> Split:
        """Return the documents of "train" or "validation"."""
        shards = [self.folder / "shards" / shard for shard in self.manifest["shards"]]
        values = tuple(read_array(shard / "values.npy") for shard in shards)
        weights = [shard / "weights.npy" for shard in shards]
        table = read_array(self.index / f"{name}.npy")
        end = self.manifest["end"]
        dtype = np.float32 if any(v.dtype.kind == "f" for v in values) else np.int64
        return Split(
            values=values,
            shards=table[:, 0],
            firsts=table[:, 1],
            lengths=table[:, 2],
            units_each=table[:, 3],
            grids=table[:, COLUMNS:],
            start=np.array(self.manifest["start"], dtype=dtype),
            end=None if end is None else np.array(end, dtype=dtype),
            weights=tuple(map(read_array, weights)) if all(w.exists() for w in weights) else (),
        )

    def ids(self, name: str) -> list[str]:
        """Return the id of every document of a split.

        The hash of its content, or of its key in pairs.
        """
        return [bytes(row).hex() for row in read_array(self.index / f"{name}.ids.npy")]


COLUMNS = 4  # of an index before the grid: shard, first, length, units


@cache
def _checked(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def open_store(folder: Path, *, verify: bool = False, source: SourceConfig | None = None) -> Store:
    """Open the store at `folder`; raise DataError where it is missing, old or damaged.

    `verify` reads every byte; `source` is compared, file by file, with what the store was made of.
    Where its files are gone the store suffices.
    """
    path = folder / "manifest.json"
    number = read_facts(path, Numbered, "prepare the data again")["format"]
    if number != FORMAT:
        raise DataError(
            f"{path} has format {number}, this program reads format {FORMAT}; "
            + ("upgrade Broadbase" if number > FORMAT else "prepare the data again")
        )
    manifest = read_facts(path, Manifest)
    check_files(folder, manifest["hashes"], verify=verify)
    if source is not None and present(source):
        _unchanged(folder, manifest["files"], source.fingerprint())
    return Store(folder, manifest)


def present(source: SourceConfig) -> bool:
    """Return whether the files of a source are there: not moved, deleted, or out of reach."""
    try:
        return len(source.parts()) > 0
    except (BroadbaseError, OSError):
        return False


def check_files(folder: Path, hashes: Hashes, *, verify: bool) -> None:
    """Raise DataError where a file of `hashes` is missing, cut short or altered.

    `hashes` has the size and the SHA-256 of each name.
    """
    for name, (size, _) in hashes.items():
        file = folder / name
        if not file.exists() or file.stat().st_size != size:
            raise DataError(f"{file} is missing or cut short; prepare the data again")
    if verify:
        with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter lock
            digests = pool.map(digest, (folder / name for name in hashes))
            for (name, (_, wanted)), actual in zip(hashes.items(), digests, strict=True):
                if actual != wanted:
                    raise DataError(
                        f"{folder / name} was altered since it was written; delete"
                        f" {(folder / name).parent} and prepare the data again"
                    )


def file_hashes(folder: Path, names: list[str]) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of files below a folder."""
    return {n: ((folder / n).stat().st_size, digest(folder / n)) for n in names}


def read_array(path: Path) -> NDArray[Any]:
    """Return an array of a store, memory-mapped (an empty one cannot be)."""
    try:
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        array = np.load(path, allow_pickle=False)
    return array


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
