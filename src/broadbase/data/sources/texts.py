"""Sources of text in files: a text a file, or a record a line, in any encoding, packed or not."""

from __future__ import annotations

import codecs
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from upath import UPath

from broadbase.core.sources import Record, Reject, SourceChunk
from broadbase.data.sources.compressed import COMPRESSED, Utf8, opened
from broadbase.data.sources.files import MEBI, FilesConfig, Labels

PIECE = 16 * MEBI  # bytes of a large file of lines that are read as one part


class EncodedConfig(FilesConfig):
    """Files of text in one encoding; packed files are unpacked."""

    unpacks: ClassVar[bool] = True
    encoding: str = "utf-8"
    """The encoding by Python's name: latin-1, cp1252, utf-16, shift-jis."""

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError(f"no encoding is called {encoding!r}; try latin-1 or utf-16") from None
        return encoding

    @property
    def plain(self) -> bool:
        """Return whether its bytes are UTF-8 as they are."""
        return codecs.lookup(self.encoding).name == "utf-8"

    @contextmanager
    def _opened(self, path: UPath) -> Iterator[IO[bytes] | Utf8]:
        """Yield the bytes of a file, unpacked, in UTF-8."""
        with opened(path) as file:
            yield file if self.plain else Utf8(file, self.encoding)


class LinesConfig(EncodedConfig):
    """Files whose every line is an item; a large one is read in parts, a packed one unpacked."""

    limit: Annotated[int, Field(ge=1)] = 256
    """The most mebibytes of a line."""

    def _parts(self, path: UPath) -> Iterator[SourceChunk]:
        size, name = path.stat().st_size, self._name(path)
        if size <= PIECE or path.suffix.lower() in COMPRESSED or not self.plain:
            yield SourceChunk(name, size)
            return
        start, line = 0, 1
        with path.open("rb") as file:
            while start < size:
                block = file.read(PIECE)
                rest = file.readline()
                stop = start + len(block) + len(rest)
                yield SourceChunk(name, stop - start, start, stop, line)
                line += block.count(b"\n") + rest.count(b"\n")
                start = stop

    def _part(self, path: UPath, part: SourceChunk) -> Iterator[Record | Reject]:
        with self._opened(path) as file:
            if part.start and not isinstance(file, Utf8):
                file.seek(part.start)
            number, at = part.line - 1, part.start
            while line := file.readline(self.limit * MEBI + 1):
                number, at = number + 1, at + len(line)
                origin = f"{path}:{number}"
                if len(line) > self.limit * MEBI:
                    yield Reject(origin, f"a line of more than {self.limit} MiB; raise its `limit`")
                    while (line := file.readline(MEBI)) and not line.endswith(b"\n"):
                        at += len(line)
                    at += len(line)
                elif not line.isspace():
                    lines = _parted(line)
                    del line  # of a long one, there is not room for several copies
                    while lines:
                        yield self._line(origin, lines.pop())
                if part.stop is not None and at >= part.stop:
                    return

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        for part in self._parts(path):
            yield from self._part(path, part)

    @abstractmethod
    def _line(self, origin: str, line: bytes) -> Record | Reject:
        """Return the record of one line, or why it is refused."""


def _parted(line: bytes) -> list[bytes]:
    """Return the lines, last first, of one that may hold line ends of an old kind, a CR alone."""
    if not 0 <= line.find(b"\r") < len(line) - 2:
        return [line]
    return [one for one in reversed(line.split(b"\r")) if one and not one.isspace()]


class TextFilesConfig(EncodedConfig):
    """Every file is one text; with labels="folder" its class is the first folder it lies in."""

    single: ClassVar[bool] = True
    name: Literal["text_files"] = "text_files"
    pattern: str = "**/*.txt **/*.txt.gz **/*.txt.zst **/*.md **/*.rst"
    labels: Labels = "none"
    """The label of a file: none, or the first folder that it lies in."""
    limit: Annotated[int, Field(ge=1)] = 256
    """The most mebibytes of a text, unpacked."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        with self._opened(path) as file:
            data = file.read(self.limit * MEBI + 1)
        if len(data) > self.limit * MEBI:
            yield Reject(
                str(path),
                f"more than {self.limit} MiB in one text; cut it, or raise the source's `limit`",
            )
            return
        record = as_text(str(path), data)
        if isinstance(record, Record):
            label = self._class(path) if self.labels == "folder" else None
            record = replace(record, key=self._key(path), label=label)
        yield record


def as_text(origin: str, data: bytes) -> Record | Reject:
    """Return the text of UTF-8 bytes as a record; a Reject where they are no text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Reject(origin, UTF16)
    if b"\0" in data:
        return Reject(origin, f"binary data, not a text (a NUL byte at {data.index(0)})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Reject(
            origin, f"not UTF-8 at byte {error.start} (0x{data[error.start]:02x}); {MEND}"
        )
    empty = not text or text.isspace()
    return Reject(origin, "empty", empty=True) if empty else Record(text, origin)


UTF16 = "UTF-16; set the source's `encoding` to utf-16, or convert it"
MEND = (
    "set the source's `encoding` (data.sources.NAME.source.encoding=latin-1), or convert the file:"
    " iconv -f latin1 -t utf-8"
)
