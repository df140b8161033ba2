"""Files of predicted rows: CSV, JSON lines or Parquet, by the ending; written a batch at a time."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from broadbase.core.errors import ConfigError
from broadbase.core.files import draft_file
from broadbase.core.terminal import raw

GROUP = 1_000_000  # values of a row group of Parquet
JOIN = ";"  # between the items of a list in CSV

ARROW = {
    str: pa.string(),
    float: pa.float64(),
    list[str]: pa.list_(pa.string()),
    list[float]: pa.list_(pa.float64()),
}

Row = Mapping[str, Any]
Columns = Mapping[str, Any]  # in order, each with the type of its values, a key of ARROW


class RowFile(ABC):
    """A file that rows of named columns are written to; a column that a row lacks is empty."""

    def __init__(self, columns: Columns) -> None:
        """Take the columns."""
        self.columns = columns

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Write rows after those that are there."""

    def close(self) -> None:
        """Write what is left."""


class TextRows(RowFile):
    """A file of text, or stdout."""

    def __init__(self, columns: Columns, path: Path | None) -> None:
        """Open the file; None is stdout."""
        super().__init__(columns)
        self._file = None if path is None else path.open("w", encoding="utf-8", newline="")
        self._write = partial(raw, end="") if self._file is None else self._file.write

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class CsvRows(TextRows):
    """Comma-separated values under a header; the items of a list have `;` between them."""

    def __init__(self, columns: Columns, path: Path | None) -> None:
        """Open the file and write the header."""
        super().__init__(columns, path)
        self._write(_line(columns))

    def write(self, rows: Sequence[Row]) -> None:
        """Write a line for each row."""
        lines = (_line([_cell(row.get(name)) for name in self.columns]) for row in rows)
        self._write("".join(lines))


class JsonRows(TextRows):
    """A JSON object for each line."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write an object with all columns for each row."""
        objects = ({name: row.get(name) for name in self.columns} for row in rows)
        self._write("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects))


class ParquetRows(RowFile):
    """Parquet, in row groups of about a million values."""

    def __init__(self, columns: Columns, path: Path) -> None:
        """Open the file."""
        super().__init__(columns)
        self._schema = pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(path, self._schema)
        self._tables: list[pa.Table] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows to a group, and write the group where it is full."""
        columns = {name: [row.get(name) for row in rows] for name in self.columns}
        self._tables.append(pa.table(columns, schema=self._schema))
        if sum(len(table) for table in self._tables) * len(self.columns) >= GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last group and the end of the file."""
        if self._tables:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(pa.concat_tables(self._tables))
        self._tables = []


KINDS: Mapping[str, Any] = {".csv": CsvRows, ".jsonl": JsonRows, ".parquet": ParquetRows}


def must_be_writable(path: Path) -> None:
    """ConfigError where no rows can be written to a path: its ending, or a folder that is there."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file with --out")
    if path.suffix.lower() not in KINDS:
        raise ConfigError(
            f"{path} does not say how to write rows; give --out one of the endings"
            f" {', '.join(KINDS)}"
        )


@contextmanager
def row_file(path: Path | None, columns: Columns, ending: str = "") -> Iterator[RowFile]:
    """Give a file of rows, which is there completely when the block ends well, or not at all.

    Its kind is that of the ending of `path`. Without a path rows go to stdout as `ending` says.
    """
    if path is None:
        yield KINDS[ending](columns, None)
        return
    with draft_file(path) as draft:
        file: RowFile = KINDS[path.suffix.lower()](columns, draft)
        try:
            yield file
        finally:
            file.close()


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return JOIN.join(map(str, value)) if isinstance(value, list | tuple) else value
