"""Sources of raw records: text files, JSON lines, image files. What cannot be used is a Reject."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from upath import UPath

from broadbase.core.config import hint
from broadbase.core.contracts import Part, Record, Reject, SourceConfig
from broadbase.core.errors import DataError
from broadbase.data.apart import apart
from broadbase.data.packed import COMPRESSED, opened
from broadbase.data.picture import PIXELS, picture

MEBI = 1 << 20
PIECE = 16 * MEBI  # bytes of a large file of lines that are read as one part


class FilesConfig(SourceConfig):
    """The files of a folder that match one of some patterns, in sorted order; or one file.

    `path` may be a URL that fsspec knows (s3://, gs://, https://) where its package is installed.
    """

    wait: ClassVar[float] = 20.0  # seconds that a decoder may say nothing
    single: ClassVar[bool] = False  # whether every file is one record
    path: str
    pattern: str  # one or more globs, with spaces between

    @property
    def root(self) -> UPath:
        """The folder or file."""
        try:
            return UPath(self.path).expanduser()
        except (ImportError, ValueError) as error:
            raise DataError(f"{self.path} cannot be opened: {error}") from None

    def files(self) -> list[UPath]:
        """The files; DataError where there are none, saying what there is instead."""
        root = self.root
        if root.is_file():
            return [root]
        if not root.is_dir():
            raise DataError(f"{root} does not exist; give a folder or a file with --data")
        found = {p for one in self.pattern.split() for p in root.glob(one) if p.is_file()}
        files = sorted(found, key=str)
        if not files:
            endings = Counter(p.suffix or p.name for p in root.rglob("*") if p.is_file())
            there = ", ".join(f"{n} {e}" for e, n in endings.most_common(5)) or "nothing"
            raise DataError(
                f"no file in {root} matches {self.pattern!r}; it holds {there}. Name other files"
                " with --set data.sources.NAME.source.pattern='**/*.ending'"
            )
        return files

    def parts(self) -> Sequence[Part]:
        return [part for path in self.files() for part in self._parts(path)]

    def read(self, part: Part) -> Iterator[Record | Reject]:
        """The items of a file; a reject of a whole file takes all its bytes with it."""
        path = self.root if self.root.is_file() else self.root / part.name
        for item in self._readable(path, part):
            if isinstance(item, Record) and not item.key:  # wherever the folder lies
                item = replace(item, key=item.place.removeprefix(str(self.root)))
            elif isinstance(item, Reject) and item.place == str(path):
                whole = not (self.single or item.empty or item.lost)
                item = replace(item, lost=part.size) if whole else item
            yield item

    def _readable(self, path: UPath, part: Part) -> Iterator[Record | Reject]:
        """The items of a file; a Reject from where the system or a packer fails."""
        try:
            yield from self._part(path, part)
        except PermissionError:
            yield Reject(str(path), f"no permission to read it; chmod +r {path.name}")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield Reject(str(path), f"truncated or damaged gzip: {error}")
        except OSError as error:
            yield Reject(str(path), f"cannot be read: {error.strerror or error}")

    def fingerprint(self) -> dict[str, str]:
        files = self.files()
        with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter lock
            return dict(zip(map(self._name, files), pool.map(_digest, files), strict=True))

    def _name(self, path: UPath) -> str:
        return path.name if path == self.root else str(path.relative_to(self.root))

    def _key(self, path: UPath) -> str:
        """What cat.png and cat.txt have in common."""
        plain = path.with_suffix("") if path.suffix in COMPRESSED else path
        return self._name(path).removesuffix(path.name) + plain.stem

    def _parts(self, path: UPath) -> Iterator[Part]:
        yield Part(self._name(path), path.stat().st_size)

    def _part(self, path: UPath, part: Part) -> Iterator[Record | Reject]:
        return self._file(path)

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        raise TypeError(f"{type(self).__name__} has no _file()")


class LinesConfig(FilesConfig):
    """Files whose every line is an item; a large one is read in parts, a packed one unpacked."""

    limit: Annotated[int, Field(ge=1)] = 256  # mebibytes of one line

    def _parts(self, path: UPath) -> Iterator[Part]:
        size, name = path.stat().st_size, self._name(path)
        if size <= PIECE or path.suffix in COMPRESSED:
            yield Part(name, size)
            return
        start, line = 0, 1
        with path.open("rb") as file:
            while start < size:
                block = file.read(PIECE)
                rest = file.readline()
                stop = start + len(block) + len(rest)
                yield Part(name, stop - start, start, stop, line)
                line += block.count(b"\n") + rest.count(b"\n")
                start = stop

    def _part(self, path: UPath, part: Part) -> Iterator[Record | Reject]:
        with opened(path) as file:
            if part.start:
                file.seek(part.start)
            number, at = part.line - 1, part.start
            while line := file.readline(self.limit * MEBI + 1):
                number, at = number + 1, at + len(line)
                place = f"{path}:{number}"
                if len(line) > self.limit * MEBI:
                    yield Reject(place, f"a line of more than {self.limit} MiB; raise its `limit`")
                    while (line := file.readline(MEBI)) and not line.endswith(b"\n"):
                        at += len(line)
                    at += len(line)
                elif line.strip():
                    yield self._line(place, line)
                if part.stop is not None and at >= part.stop:
                    return

    def _line(self, place: str, line: bytes) -> Record | Reject:
        raise TypeError(f"{type(self).__name__} has no _line()")


class TextFilesConfig(FilesConfig):
    """Every file is one text, UTF-8; packed files are unpacked."""

    single: ClassVar[bool] = True
    name: Literal["text_files"] = "text_files"
    pattern: str = "**/*.txt **/*.txt.gz **/*.txt.zst **/*.md **/*.rst"
    limit: Annotated[int, Field(ge=1)] = 256  # mebibytes of one text, unpacked

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        with opened(path) as file:
            data = file.read(self.limit * MEBI + 1)
        if len(data) > self.limit * MEBI:
            yield Reject(
                str(path),
                f"more than {self.limit} MiB in one text; cut it, or raise the source's `limit`",
            )
            return
        record = as_text(str(path), data)
        yield record if isinstance(record, Reject) else replace(record, key=self._key(path))


class ColumnsConfig(FilesConfig):
    """Files of rows with named columns; not a choice by itself."""

    field: str = "text"  # a text, or a picture as {"bytes": ...}
    label: str | None = None
    key: str | None = None  # what a row is known by among paired sources; None: its place
    group: str | None = None  # rows that are equal here fall on one side of the split

    @property
    def columns(self) -> list[str]:
        """Those that are read."""
        return [name for name in (self.field, self.label, self.key, self.group) if name]

    def _row(self, place: str, row: Mapping[str, Any]) -> Record | Reject:
        for name in self.columns:
            if name not in row:
                return Reject(place, f"no field `{name}`{hint(name, row)}")
        raw, label = row[self.field], str(row[self.label]) if self.label else None
        if isinstance(raw, Mapping) and isinstance(raw.get("bytes"), bytes):
            record = picture(place, io.BytesIO(raw["bytes"]), PIXELS, label)
        elif not isinstance(raw, str):
            return Reject(place, f"field `{self.field}` is {type(raw).__name__}, expected a text")
        elif not raw.strip():
            return Reject(place, f"field `{self.field}` is empty", empty=True)
        else:
            record = Record(raw, place, label)
        if isinstance(record, Reject) or not (self.key or self.group):
            return record
        key = str(row[self.key]) if self.key else record.key
        return replace(record, key=key, group=str(row[self.group]) if self.group else record.group)


class JsonLinesConfig(ColumnsConfig, LinesConfig):
    """Every line is a JSON object with a text in `field`."""

    name: Literal["jsonl"] = "jsonl"
    pattern: str = "**/*.jsonl **/*.jsonl.gz **/*.jsonl.zst **/*.ndjson"

    def _line(self, place: str, line: bytes) -> Record | Reject:
        text = as_text(place, line)
        if isinstance(text, Reject):
            return text
        try:
            item = json.loads(text.raw)
        except json.JSONDecodeError as error:
            return Reject(place, f"broken JSON at column {error.colno}: {error.msg}")
        except (ValueError, RecursionError) as error:  # of numbers and nesting without end
            return Reject(place, f"JSON that cannot be read: {error}")
        if not isinstance(item, dict):
            return Reject(place, f"expected an object, got {type(item).__name__}")
        return self._row(place, item)


class ImageFilesConfig(FilesConfig):
    """Every file is a picture; with labels="folder" its class is the folder it lies in."""

    single: ClassVar[bool] = True
    name: Literal["image_files"] = "image_files"
    pattern: str = "**/*.png **/*.jpg **/*.jpeg **/*.webp **/*.bmp **/*.gif **/*.tif **/*.tiff"
    labels: Literal["none", "folder"] = "none"
    limit: Annotated[int, Field(ge=1)] = PIXELS  # megapixels

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        return apart(self.decoded, path, self.wait, (__name__,))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """The picture of a file, decoded by this process."""
        with path.open("rb") as file:
            label = path.parent.name if self.labels == "folder" else None
            found = picture(str(path), file, self.limit, label)
            yield found if isinstance(found, Reject) else replace(found, key=self._key(path))


def as_text(place: str, data: bytes) -> Record | Reject:
    if b"\0" in data:
        return Reject(place, f"binary data, not a text (a NUL byte at {data.index(0)})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Reject(
            place,
            f"not UTF-8 at byte {error.start} (0x{data[error.start]:02x}); convert it, for example"
            " with: iconv -f latin1 -t utf-8",
        )
    return Record(text, place) if text.strip() else Reject(place, "empty", empty=True)


def _digest(path: UPath) -> str:
    """The SHA-256 of a file's content, or why it has none."""
    try:
        facts = path.stat()
        return _sha256(path, facts.st_size, getattr(facts, "st_mtime_ns", time.monotonic_ns()))
    except OSError as error:
        return f"unreadable: {error.strerror}"


@lru_cache(maxsize=1 << 16)
def _sha256(path: UPath, size: int, changed: int) -> str:  # noqa: ARG001
    """Read once a process, as long as size and time of change stay."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MEBI):
            digest.update(block)
    return digest.hexdigest()
