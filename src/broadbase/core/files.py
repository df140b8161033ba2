"""Results on disk: each is there completely, or not at all, and nothing else is touched.

Every file and folder of results is written through this module. A draft is written in a folder
next to its final path, flushed to the disk, and renamed:

.NAME.XXXXXXXX.draft/NAME   the draft
.NAME.XXXXXXXX.draft/old    a folder that is being replaced, until the draft has its name
.NAME.XXXXXXXX.draft/lock   held by the process that writes; the system frees it when that ends

What a killed process leaves is removed, or put back, by the next one that writes to its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from broadbase.core.errors import ConfigError, DataError, ResourceError

DRAFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.draft", re.DOTALL)
MOST, DEEPEST = 2**28, 64  # bytes of a JSON file, and lists and objects within each other
Ours = Callable[[Path], bool]  # whether a folder that exists may be replaced
_swept: set[Path] = set()  # folders that this process has looked through


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which replaces `path` when the block ends well.

    Parent folders are made; a link is followed. ConfigError where `path` is a folder or a device;
    ResourceError, which names `path`, where the disk refuses.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} exists and is not a file; give another path")
    with named(path), _draft(path) as (draft, mode):
        yield draft
        draft.chmod(mode)
        sync(draft)
        draft.replace(path)
        sync(path.parent)


@contextmanager
def draft_folder(path: Path, ours: Ours | None = None) -> Iterator[Path]:
    """Give an empty folder to write to, which replaces `path` when the block ends well.

    At `path` there may be nothing, an empty folder, or a folder of which `ours` is true, which is
    replaced. ConfigError names what is in any other, before anything is written. ResourceError,
    which names `path`, where the disk refuses.
    """
    path = path.absolute()
    refuse_foreign(path, ours)
    with named(path), _draft(path) as (draft, mode):
        draft.mkdir()
        yield draft
        for item in draft.rglob("*"):
            if item.is_file():
                item.chmod(mode)
            sync(item)
        sync(draft)
        refuse_foreign(path, ours)  # the block may have taken hours
        if path.is_dir():
            path.rename(draft.with_name("old"))
        draft.rename(path)
        sync(path.parent)


def refuse_file(path: Path) -> None:
    """ConfigError where `path`, or a folder above it, is a file: no folder can be there."""
    for each in (path, *path.parents):
        if each.exists() and not each.is_dir():
            raise ConfigError(f"{each} is not a folder; give another path")


def refuse_foreign(path: Path, ours: Ours | None = None) -> None:
    """ConfigError where `path` is a file, or a folder that holds what must not be erased."""
    if Path.cwd().is_relative_to(path.resolve()):
        raise ConfigError(f"{path} is the current folder, or holds it; give another path")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(f"{path} exists and is not a folder; give another path")
    if path.is_dir() and any(path.iterdir()) and not (ours and ours(path)):
        names = sorted(item.name for item in path.iterdir())
        more = ", ..." if len(names) > 3 else ""
        raise ConfigError(
            f"{path} already holds other files ({', '.join(names[:3])}{more}), which would be lost;"
            " give another path"
        )


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all; a file with the same content is not touched."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, completely or not at all; a file with the same content is not touched."""
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    with draft_file(path) as draft:
        draft.write_bytes(content)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON, completely or not at all; ValueError where a number is not finite."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False))


def discard(path: Path, ours: Ours | None = None) -> None:
    """Remove a file or folder at once: it is never seen half there, however the process ends.

    ConfigError where `ours` is given, and is not true of a folder.
    """
    if ours and path.is_dir():
        refuse_foreign(path, ours)
    with named(path), _draft(path) as (draft, _):
        path.rename(draft)
        sync(path.parent)


def read_json(path: Path, remedy: str = "copy it again") -> dict[str, Any]:
    """Read the object in a JSON file; DataError, which ends with `remedy`, where there is none.

    No field may come twice and no number be NaN or infinite; a byte order mark is ignored.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")
        if path.stat().st_size > MOST:
            raise ValueError(f"more than {MOST} bytes")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {remedy}") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}; {remedy}") from None
    try:
        content = json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; {remedy}")
    if _deeper(content):
        raise DataError(f"{path} nests more than {DEEPEST} levels; {remedy}")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"it has the field {twice!r} twice")
    return content


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"the number {text} is not finite")
    return number


def _deeper(content: Any) -> bool:
    """Return whether it nests more than DEEPEST levels."""
    level = [content]
    for _ in range(DEEPEST):
        nested = (x.values() if isinstance(x, dict) else x for x in level)
        level = [y for x in nested for y in x if isinstance(y, (dict, list))]
    return bool(level)


def sweep(folder: Path) -> None:
    """Remove the drafts in `folder` whose process has ended; put back a folder it had moved."""
    with suppress(OSError):
        for left in [item for item in folder.iterdir() if DRAFT.fullmatch(item.name)]:
            match = DRAFT.fullmatch(left.name)
            assert match is not None
            with suppress(OSError, Timeout), FileLock(left / "lock", timeout=0):
                _clear(left, folder / match["name"])


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn errors of the system in this context into a ResourceError that names `path`."""
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ResourceError(
            f"{path} cannot be written: {where}{error.strerror or error}; free space or"
            " permissions there, or give another path"
        ) from None


@contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, int]]:
    """Return the path of a draft of `path`, and the mode of files under the user's umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.absolute() not in _swept:
        _swept.add(path.parent.absolute())
        sweep(path.parent)
    folder, lock = _locked(path)
    try:
        yield folder / path.name, folder.stat().st_mode & 0o666
    finally:
        with suppress(OSError):
            _clear(folder, path)
        lock.release()


def _clear(folder: Path, path: Path) -> None:
    """Remove the folder of a draft of `path`; what was to be replaced stays where it still is."""
    if (folder / "old").exists() and not path.exists():
        (folder / "old").rename(path)
    shutil.rmtree(folder)


def _locked(path: Path) -> tuple[Path, FileLock]:
    """Make and lock a new folder for a draft of `path`, which no other process sweeps away."""
    while True:
        folder = path.with_name(f".{path.name}.{uuid4().hex[:8]}.draft")
        folder.mkdir()
        lock = FileLock(folder / "lock")
        with suppress(Timeout, FileNotFoundError):
            lock.acquire(timeout=0)
            if (folder / "lock").exists():
                return folder, lock
            lock.release()
