"""Tables that were dropped on a page: kept under the root, by their content.

ROOT/.studio/uploads/ID/NAME.csv    the table; ID is the beginning of its SHA-256
ROOT/.studio/uploads/ID/note.txt    what was changed of it, where something was
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.exceptions import HTTPException

from broadbase.core.errors import DataError
from broadbase.core.files import draft_file, write_text
from broadbase.data.table_columns import TABLES

WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
PLAIN = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")  # that hold text, in any encoding
PIECE = 1 << 20  # bytes that are read at once
NOTE = "note.txt"
ID = re.compile(r"[0-9a-f]{12}")
ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Upload:
    """A table that was dropped."""

    id: str
    path: Path
    note: str = ""  # what was changed of it, in words

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    def said(self, words: str) -> str:
        """Return words with the name of the file in place of its path."""
        return words.replace(str(self.path), self.name)


class Uploads:
    """The tables in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made when a table comes."""
        self.folder = folder

    def get(self, name: str) -> Upload:
        """Return a table by its ID; HTTPException 404 if there is none."""
        for upload in self._in(self.folder / name) if ID.fullmatch(name) else ():
            return upload
        raise HTTPException(404, "there is no such table; drop it again")

    def all(self) -> list[Upload]:
        """Return the tables, the newest first."""
        folders = [path for path in self.folder.glob("*") if ID.fullmatch(path.name)]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [upload for folder in folders for upload in self._in(folder)]

    def _in(self, folder: Path) -> Iterator[Upload]:
        for path in sorted(folder.glob("*")):
            if (
                path.name != NOTE
                and not path.name.startswith(".")
                and path.is_file()
                and not path.is_symlink()
            ):
                note = ""
                with suppress(OSError):
                    note = (folder / NOTE).read_text()
                yield Upload(folder.name, path, note)

    def keep(self, given: str, file: BinaryIO) -> Upload:
        """Keep a file that a client calls `given`, completely or not at all.

        Text in another encoding is kept as UTF-8. DataError of a file that is no table.
        """
        name = safe_name(given)
        must_be_table(name)
        digest = hashlib.sha256()
        for piece in _pieces(file):
            digest.update(piece)
        if not file.tell():
            raise DataError(f"{name} is empty; save it again, and drop it again")
        encoding = _encoding(name, file) if _is_plain(name) else "utf-8"
        folder = self.folder / digest.hexdigest()[:12]
        for upload in self._in(folder):  # the same content under another name too
            return upload
        decoder = codecs.getincrementaldecoder(encoding)()
        path = folder / name
        note = ""
        if encoding != "utf-8":
            note = f"{name} is not in UTF-8; it was read as {encoding} and is kept as UTF-8"
            write_text(folder / NOTE, note)
        with draft_file(path) as draft, draft.open("wb") as out:
            for piece in _pieces(file):
                out.write(decoder.decode(piece).encode() if note else piece)
        return Upload(folder.name, path, note)


def safe_name(given: str) -> str:
    """Return a name for a file that a client names: no folder, no strange characters."""
    name = re.split(r"[/\\]", given)[-1]
    stem, dot, ending = name.rpartition(".")
    stem = re.sub(r"[^\w.-]+", "-", stem if dot else name).strip(".-")[:60] or "table"
    return f"{stem}.{re.sub(r'[^a-z0-9]', '', ending.lower())[:10]}" if dot else stem


def must_be_table(name: str) -> None:
    """DataError where a file of this name is no table that is read."""
    ending = Path(name).suffix
    if ending in WORKBOOKS:
        raise DataError(
            f"{name} is a workbook, which is not read; save the sheet as CSV (File, Save as,"
            " CSV UTF-8) and drop that file"
        )
    if not any(source(path=".").wants(name) for source in TABLES):
        raise DataError(
            f"{name} is no table that is read; drop a file that ends in .csv, .tsv, .jsonl, .json"
            " or .parquet"
        )


def _is_plain(name: str) -> bool:
    return Path(name).suffix in PLAIN


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece


def _encoding(name: str, file: BinaryIO) -> str:
    """Return the encoding of a file of text; DataError where it is none."""
    file.seek(0)
    head = file.read(PIECE)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(ZIP) or b"\0" in head:
        raise DataError(
            f"{name} is called a table and holds something else; open it in the program that made"
            " it, save it as CSV (CSV UTF-8) and drop that file"
        )
    for encoding in ("utf-8", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for piece in _pieces(file):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"
