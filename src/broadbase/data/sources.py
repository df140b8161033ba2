"""Sources of raw records: text files, JSON lines, image files. What cannot be used is a Reject."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Annotated, Literal, cast

from PIL import Image, UnidentifiedImageError
from pydantic import Field

from broadbase.core.config import hint
from broadbase.core.contracts import Record, Reject, SourceConfig
from broadbase.core.errors import DataError

MEBI = 1 << 20


class FilesConfig(SourceConfig):
    """The files of a folder that match a pattern, in sorted order; or one file."""

    path: str
    pattern: str

    def files(self) -> list[Path]:
        """The files; DataError where there are none, saying what there is instead."""
        root = Path(self.path).expanduser()
        if root.is_file():
            return [root]
        if not root.is_dir():
            raise DataError(f"{root} does not exist; give a folder or a file with --data")
        files = sorted(p for p in root.glob(self.pattern) if p.is_file())
        if not files:
            endings = Counter(p.suffix or p.name for p in root.rglob("*") if p.is_file())
            there = ", ".join(f"{n} {e}" for e, n in endings.most_common(5)) or "nothing"
            raise DataError(
                f"no file in {root} matches {self.pattern!r}; it holds {there}. Name other files"
                " with --set data.sources.NAME.source.pattern='**/*.ending'"
            )
        return files

    def fingerprint(self) -> dict[str, str]:
        root = Path(self.path).expanduser()
        found = {}
        for path in self.files():
            name = str(path.relative_to(root)) if path != root else path.name
            try:
                with path.open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                found[name] = f"unreadable: {error.strerror}"
        return found

    def records(self) -> Iterator[Record | Reject]:
        for path in self.files():
            try:
                yield from self._file(path)
            except PermissionError:
                yield Reject(str(path), f"no permission to read it; chmod +r {path.name}")
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                yield Reject(str(path), f"truncated or damaged gzip: {error}")
            except OSError as error:
                yield Reject(str(path), f"cannot be read: {error.strerror or error}")

    def _file(self, path: Path) -> Iterator[Record | Reject]:
        raise TypeError(f"{type(self).__name__} has no _file()")


class TextFilesConfig(FilesConfig):
    """Every file is one text, UTF-8; .gz is read through."""

    name: Literal["text_files"] = "text_files"
    pattern: str = "**/*.txt"
    limit: Annotated[int, Field(ge=1)] = 256  # mebibytes of one text, unpacked

    def _file(self, path: Path) -> Iterator[Record | Reject]:
        with _open(path) as file:
            data = file.read(self.limit * MEBI + 1)
        if len(data) > self.limit * MEBI:
            yield Reject(
                str(path),
                f"more than {self.limit} MiB in one text; cut it, or raise the source's `limit`",
            )
            return
        yield _text(str(path), data)


class JsonLinesConfig(FilesConfig):
    """Every line is a JSON object with a text in `field`; .gz is read through."""

    name: Literal["jsonl"] = "jsonl"
    pattern: str = "**/*.jsonl*"
    field: str = "text"
    label: str | None = None
    limit: Annotated[int, Field(ge=1)] = 256  # mebibytes of one line

    def _file(self, path: Path) -> Iterator[Record | Reject]:
        with _open(path) as file:
            number = 0
            while line := file.readline(self.limit * MEBI):
                number += 1
                if line.strip():
                    yield self._line(f"{path}:{number}", line)

    def _line(self, place: str, line: bytes) -> Record | Reject:
        text = _text(place, line)
        if isinstance(text, Reject):
            return text
        try:
            item = json.loads(text.raw)
        except json.JSONDecodeError as error:
            return Reject(place, f"broken JSON at column {error.colno}: {error.msg}")
        if not isinstance(item, dict):
            return Reject(place, f"expected an object, got {type(item).__name__}")
        label = None
        for name in (self.field, *([self.label] if self.label else [])):
            if name not in item:
                return Reject(place, f"no field `{name}`{hint(name, item)}")
        if not isinstance(item[self.field], str):
            found = type(item[self.field]).__name__
            return Reject(place, f"field `{self.field}` is {found}, expected a text")
        label = str(item[self.label]) if self.label else None
        return Record(item[self.field], place, label)


class ImageFilesConfig(FilesConfig):
    """Every file is a picture; with labels="folder" its class is the folder it lies in."""

    name: Literal["image_files"] = "image_files"
    pattern: str = "**/*.[pjbgtw][npime][gpfb]*"
    labels: Literal["none", "folder"] = "none"
    limit: Annotated[int, Field(ge=1)] = 64  # megapixels, read from the header before decoding

    def _file(self, path: Path) -> Iterator[Record | Reject]:
        try:
            with Image.open(path) as image:
                width, height = image.size
                if width * height > self.limit * 1_000_000:
                    yield Reject(
                        str(path),
                        f"{width} x {height} pixels, more than {self.limit} megapixels; shrink it,"
                        " or raise the source's `limit`",
                    )
                    return
                image.load()
                label = path.parent.name if self.labels == "folder" else None
                yield Record(image.copy(), str(path), label)
        except UnidentifiedImageError:
            yield Reject(str(path), "not an image that Pillow can read")
        except Image.DecompressionBombError as error:  # from the header too, above Pillow's limit
            yield Reject(str(path), f"too large to decode: {error}; shrink it")
        except (SyntaxError, ValueError) as error:
            yield Reject(str(path), f"damaged image: {error}")


def _open(path: Path) -> AbstractContextManager[IO[bytes]]:
    opener = gzip.open if path.suffix == ".gz" else open
    return cast(AbstractContextManager[IO[bytes]], opener(path, "rb"))


def _text(place: str, data: bytes) -> Record | Reject:
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
    return Record(text, place) if text.strip() else Reject(place, "empty")
