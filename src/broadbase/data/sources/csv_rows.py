"""Rows of CSV, line by line: a row that cannot be read costs no other row.

After a quote that is never closed a parser would take all rows up to the next quote, or to the end
of the file, for one field. Here such a row is an error of the line where it begins. Where the lines
after it are rows by themselves, reading goes on with them; else they are lost, and counted.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import IO, NamedTuple, Protocol

from broadbase.data.sources.texts import MEND, UTF16

FIELD = 16 << 20  # the longest field of a row, and the longest line
RECORD = 4 * FIELD  # the longest row
AGAIN = 8 * RECORD  # characters that may be read a second time before a file is given up
MANY = 10  # lines of a row, from which on they are looked at one by one
MOST = 0.9  # of some lines that must be rows, so that reading goes on with them
OPEN = "a quote that is opened in this line is never closed; close it, or write it twice"
INSIDE = (
    "a quote within a quoted field, or one that was opened here and never closed; write a quote"
    ' within a field twice (""), or set the source\'s `escape`'
)
REASONS = {"unexpected end of data": OPEN, "expected after": INSIDE}


class Bytes(Protocol):
    """What lines are read from."""

    def readline(self, size: int = -1, /) -> bytes:
        """Return a line, or about `size` bytes of it."""
        ...


class Bad(NamedTuple):
    """A row that cannot be read."""

    why: str
    lost: int = 0  # characters of the lines after its first that are lost with it


class HopelessError(ValueError):
    """So much of a file was read again and again that it is no CSV."""


def rows(
    file: Bytes | IO[bytes], separator: str, escape: str | None = None, number: int = 1
) -> Iterator[tuple[int, list[str] | Bad]]:
    """Yield each row with the number of its first line; of a row that cannot be read why not.

    `number` is that of the first line of the file that is still to be read.
    HopelessError where nearly every row would take the rest of the file.
    """
    lines = _Lines(file, number)
    csv.field_size_limit(FIELD)
    reader = csv.reader(lines, delimiter=separator, escapechar=escape, strict=True)
    columns = 0
    while True:
        row, why = list[str](), ""
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = next((why for part, why in REASONS.items() if part in str(error)), str(error))
        span = len(lines.taken)
        if columns and not why and span > 1 and len(row) != columns:
            why = f"{len(row)} fields in {span} lines under a header of {columns}: a stray quote?"
        if why and not lines.go_on(columns, separator):
            lost = lines.size - len(lines.taken[0][0])
            why += f"; the {span - 1} lines after it are lost with it"
            yield lines.end()[0], Bad(why, lost)
        elif why:
            yield lines.back(), Bad(why)
        elif columns > 1 and lines.hold_rows(columns, separator):
            why = f"a quote that is opened in this line is closed {span - 1} lines later, and the"
            why += f" lines between are rows of {columns} fields of their own; close it"
            yield lines.back(), Bad(why)
        else:
            columns = columns or len(row)
            first, bad = lines.end()
            if bad is not None:
                yield bad
            elif row:
                yield first, row


class _Lines:
    """The lines of a file as text; those of the row that is being read can be gone back to."""

    def __init__(self, file: Bytes | IO[bytes], number: int) -> None:
        self.source = _physical(file)
        self.number = number  # of the first line that is taken
        self.taken: list[tuple[str, str]] = []  # texts, and why they are none
        self.again: deque[tuple[str, str]] = deque()
        self.size, self.twice = 0, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.source)
        self.taken.append(line)
        self.size += len(line[0])
        if self.size > RECORD:
            raise csv.Error(f"a row of more than {RECORD:,} characters")
        return line[0]

    def end(self) -> tuple[int, tuple[int, Bad] | None]:
        """End the row; return its first line, and the first of its lines that is no text and why.

        The next line begins another row.
        """
        bad = next(((i, why) for i, (_, why) in enumerate(self.taken) if why), None)
        first = self.number
        self.number += len(self.taken)
        self.taken, self.size = [], 0
        return first, None if bad is None else (first + bad[0], Bad(bad[1]))

    def back(self) -> int:
        """Go back to the second line of the row; return the number of its first."""
        self.twice += self.size
        if self.twice > AGAIN:
            raise HopelessError(f"line {self.number}: row after row opens a quote without an end")
        self.again.extendleft(reversed(self.taken[1:]))
        self.number += 1
        self.taken, self.size = [], 0
        return self.number - 1

    def hold_rows(self, columns: int, separator: str) -> bool:
        """Return whether a row has many lines, and all within it are rows by themselves."""
        inner = [text for text, _ in self.taken[1:-1]]
        if len(inner) < MANY:
            return False
        good, total = _counted(inner, columns, separator)
        return good == total >= MANY

    def go_on(self, columns: int, separator: str) -> bool:
        """Return whether the lines after the first are nearly all rows by themselves."""
        good, total = _counted([text for text, _ in self.taken[1:]], columns, separator)
        return good >= MOST * total


def _counted(lines: list[str], columns: int, separator: str) -> tuple[int, int]:
    """Return how many rows of so many fields there are in some lines, and how many rows in all."""
    reader, good, count = csv.reader(lines, delimiter=separator, strict=True), 0, 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            count += 1
            continue
        if row is None:
            return good, count
        good, count = good + (len(row) == columns), count + bool(row)


def _physical(file: Bytes | IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield lines, of any line end, as text; what is no text comes with the reason."""
    first = True
    while line := file.readline(FIELD + 1):
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        if len(line) > FIELD:
            while (rest := file.readline(FIELD)) and not rest.endswith(b"\n"):
                pass
            yield "\n", f"a line of more than {FIELD:,} bytes"
            continue
        for one in re.split(rb"(?<=\r)(?!\n)", line):
            if one:
                yield _text(one)


def _text(line: bytes) -> tuple[str, str]:
    try:
        text, why = line.decode(), ""
    except UnicodeDecodeError as error:
        text = line.decode(errors="replace")
        why = f"not UTF-8 at byte {error.start} of the line (0x{line[error.start]:02x}); {MEND}"
    if "\0" in text:
        text, why = text.replace("\0", "\ufffd"), "binary data, not a text (a NUL byte)"
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        why = UTF16
    return text, why
