"""Whether a folder is of prepared data: what lies in any other is a user's, and is not touched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import read_json
from broadbase.data.store.store import read_facts

BOOKKEEPING = (
    "settings.json",
    "joined.json",
    "removed.json",
)  # next to stores
WITHIN = ("source.json", "manifest.json", "duplicates.jsonl", "rejected.jsonl", "codec", "shards")
MARKS = {"source.json": "name", "codec/modality.json": "name", "manifest.json": "fingerprint"}
SHARD = re.compile(r"\w+\.npy|shard\.json|rejected\.jsonl")
INDEX = re.compile("index-[0-9a-f]{16}")


def refuse_other(folder: Path, names: Iterable[str]) -> None:
    """Raise ConfigError where preparing `folder`/NAME would overwrite files of a user."""
    for name in names:
        if not _is_store(folder / name):
            _refuse(folder / name, [each for each in WITHIN if (folder / name / each).exists()])
    if not any(map(_is_store, folder.glob("*/"))):
        _refuse(folder, [each for each in BOOKKEEPING if not _bookkeeping(folder / each)])
    lock = folder / ".lock"
    _refuse(folder, [lock.name] if lock.exists() and not is_lock(lock) else [])


def is_lock(path: Path) -> bool:
    """Return whether a file can be a lock of ours: an empty one."""
    return path.is_file() and path.stat().st_size == 0


def is_shard(folder: Path) -> bool:
    """Return whether a folder holds nothing but files of a shard."""
    return all(item.is_file() and SHARD.fullmatch(item.name) for item in folder.iterdir())


def is_index(folder: Path) -> bool:
    """Return whether a folder holds nothing but files of an index."""
    named = INDEX.fullmatch(folder.name) is not None
    return named and all(item.is_file() and item.suffix == ".npy" for item in folder.iterdir())


def _is_store(folder: Path) -> bool:
    """Return whether one of the files that mark a store can be read."""
    return any(key in _object(folder / name) for name, key in MARKS.items())


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DataError:
        return {}


def _bookkeeping(path: Path) -> bool:
    """Return whether a file next to the stores is ours, or not there."""
    if not path.exists():
        return True
    if path.name == "removed.json":
        try:
            read_facts(path, list[str])
        except DataError:
            return False
        return True
    return ("holdout" if path.name == "settings.json" else "sources") in _object(path)


def _refuse(folder: Path, names: list[str]) -> None:
    if names:
        raise ConfigError(
            f"{folder} is no folder of prepared data, and holds {', '.join(names)}, which would be"
            " overwritten; give another folder"
        )
