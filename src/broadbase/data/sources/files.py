"""Sources of raw records in files: texts, lines, pictures. What cannot be used is a Reject."""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from upath import UPath

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject, SourceChunk, SourceConfig
from broadbase.data.sources.compressed import COMPRESSED, DAMAGED
from broadbase.data.sources.finding import (
    Listing,
    check_pattern,
    counted,
    endings,
    listing,
    matches,
    wants_hidden,
)
from broadbase.data.sources.isolated import apart
from broadbase.data.sources.pictures import PIXELS, picture

MEBI = 1 << 20
Labels = Literal["none", "folder"]  # of files: nothing, or the first folder that a file lies in


class FilesConfig(SourceConfig):
    """The files of a folder that match one of some patterns, in sorted order; or one file.

    `path` may be a URL that fsspec knows (s3://, gs://, https://) where its package is installed.
    """

    wait: ClassVar[float] = 20.0  # seconds that a decoder may say nothing
    single: ClassVar[bool] = False  # whether every file is one record
    unpacks: ClassVar[bool] = False  # whether packed files are read too (.gz, .zst, .bz2, .xz)
    path: str
    """The folder, the file, or a URL that fsspec opens."""
    pattern: str
    """One or more globs, with spaces between; endings count in either case."""

    @field_validator("pattern")
    @classmethod
    def _in_the_folder(cls, pattern: str) -> str:
        return check_pattern(pattern)

    @property
    def root(self) -> UPath:
        """Return the folder or file; raise DataError where it cannot be opened at all."""
        return _root(self.path)

    def holds(self) -> bool:
        """Return whether there is a file that this source reads."""
        root = self.root
        if root.is_file():
            last = " ".join(one.rpartition("/")[2] for one in self.pattern.split())
            return matches(root.name, last, packed=self.unpacks)
        return root.is_dir() and any(map(self.wants, self.listing().files))

    def wants(self, name: str) -> bool:
        """Return whether it reads a file of its folder, by its path there."""
        return matches(name, self.pattern, packed=self.unpacks)

    def would_read(self, path: Path) -> bool:
        """Return whether a file written at the resolved `path` would be read as data."""
        root = Path(self.path).expanduser()
        inside = root.is_dir() and root.resolve() in path.parents
        return inside and any(path.match(glob) for glob in self.pattern.split())

    def listing(self) -> Listing:
        """Return all files of its folder."""
        return listing(self.root, hidden=wants_hidden(self.pattern))

    def files(self) -> list[UPath]:
        """Return the files; raise DataError where there are none, saying what there is instead."""
        root = self.root
        if root.is_file():
            return [root]
        if not root.is_dir():
            what = "is a device, pipe or socket" if root.exists() else "does not exist"
            raise DataError(f"{root} {what}; give a folder or a file with --data")
        names = self.listing().files
        files = [root / name for name in names if self.wants(name)]
        if not files:
            raise DataError(
                f"no file in {root} matches {self.pattern!r}; it holds"
                f" {counted(endings(names)) or 'nothing'}. Name other files"
                " with --pattern '**/*.ending'"
            )
        return files

    def parts(self) -> Sequence[SourceChunk]:
        """Return the pieces that are read apart."""
        return [part for path in self.files() for part in self._parts(path)]

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the items of a file; a reject of the full file takes all its bytes with it."""
        path = self.root if self.root.is_file() else self.root / part.name
        above = str(self.root)
        for item in self._readable(path, part):
            if isinstance(item, Record) and not item.key:  # wherever the folder lies
                item = replace(item, key=item.origin.removeprefix(above))
            elif isinstance(item, Reject) and item.origin == str(path):
                rejected = not (self.single or item.empty or item.lost)
                item = replace(item, lost=part.size) if rejected else item
            yield item

    def _readable(self, path: UPath, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the items of a file; a Reject from where the system or a packer fails."""
        try:
            yield from self._part(path, part)
        except PermissionError:
            yield Reject(str(path), f"no permission to read it; chmod +r {path.name}")
        except DAMAGED as error:
            kind = COMPRESSED.get(path.suffix.lower(), "file")
            yield Reject(str(path), f"truncated or damaged {kind}: {error}")
        except UnicodeDecodeError as error:
            yield Reject(str(path), f"not in the encoding {error.encoding}: {error.reason}")
        except OSError as error:
            yield Reject(str(path), f"cannot be read: {error.strerror or error}")

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        files = self.files()
        with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter lock
            return dict(zip(map(self._name, files), pool.map(digest, files), strict=True))

    def _name(self, path: UPath) -> str:
        return path.name if path == self.root else str(path.relative_to(self.root))

    def _key(self, path: UPath) -> str:
        """Return what cat.png and cat.txt have in common."""
        plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
        return self._name(path).removesuffix(path.name) + plain.stem

    def _class(self, path: UPath) -> str | None:
        """Return the first folder below the source's that a file lies in; None: it lies in none."""
        folders = PurePosixPath(self._name(path)).parts[:-1]
        return folders[0] if folders else None

    def _parts(self, path: UPath) -> Iterator[SourceChunk]:
        yield SourceChunk(self._name(path), path.stat().st_size)

    def _part(self, path: UPath, part: SourceChunk) -> Iterator[Record | Reject]:
        return self._file(path)

    @abstractmethod
    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the records and rejects of one file."""


class ImageFilesConfig(FilesConfig):
    """Every file is a picture; with labels="folder" its class is the first folder it lies in."""

    single: ClassVar[bool] = True
    name: Literal["image_files"] = "image_files"
    pattern: str = "**/*.png **/*.jpg **/*.jpeg **/*.webp **/*.bmp **/*.gif **/*.tif **/*.tiff"
    labels: Labels = "none"
    """The label of a file: none, or the first folder that it lies in."""
    limit: Annotated[int, Field(ge=1)] = PIXELS
    """The most megapixels of a picture."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        return apart(self.decoded, path, self.wait, (__name__,))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the picture of a file, decoded by this process."""
        with path.open("rb") as file:
            label = self._class(path) if self.labels == "folder" else None
            record = picture(str(path), file, self.limit, label)
            yield record if isinstance(record, Reject) else replace(record, key=self._key(path))


@lru_cache(maxsize=64)
def _root(path: str) -> UPath:
    if not path.strip():
        raise ConfigError("the path of the data is empty; give a folder or a file with --data")
    try:
        root = UPath(path).expanduser()
        if "://" in path or "::" in path:
            root.exists()  # loads its package and opens the connection
    except Exception as error:  # a store behind a URL raises almost any kind
        raise DataError(f"{path} cannot be opened: {error}") from None
    return root


def digest(path: UPath) -> str:
    """Return the SHA-256 of a file's content, or why it has none."""
    try:
        facts = path.stat()
        return _sha256(path, facts.st_size, getattr(facts, "st_mtime_ns", time.monotonic_ns()))
    except OSError as error:
        return f"unreadable: {error.strerror}"


@lru_cache(maxsize=1 << 16)
def _sha256(path: UPath, size: int, changed: int) -> str:  # noqa: ARG001
    """Read once a process, as long as size and time of change stay."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MEBI):
            sha256.update(block)
    return sha256.hexdigest()
