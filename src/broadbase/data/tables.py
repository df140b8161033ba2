"""Tables: CSV, Parquet and Arrow files, a Hugging Face dataset on disk among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from broadbase.core.contracts import Record, Reject
from broadbase.data.apart import apart
from broadbase.data.packed import allow, opened
from broadbase.data.sources import ColumnsConfig

FIELD = 16 << 20  # the longest field of a CSV row
SOME = 16  # rows that are decoded at once: a long word of a dictionary may be in each


class TableConfig(ColumnsConfig):
    """Files of rows in a format of tables."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        for place, row in self._rows(path):
            yield row if isinstance(row, Reject) else self._row(place, row)

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        raise TypeError(f"{type(self).__name__} has no _rows()")


class CsvConfig(TableConfig):
    """Rows of comma-separated values under a header, UTF-8; packed files are unpacked."""

    name: Literal["csv"] = "csv"
    pattern: str = "**/*.csv **/*.tsv **/*.csv.gz **/*.tsv.gz **/*.csv.zst"
    separator: str | None = None  # None: a tab in .tsv files, else a comma

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        separator = self.separator or ("\t" if ".tsv" in path.name else ",")
        csv.field_size_limit(FIELD)
        with opened(path) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            reader = csv.DictReader(_lines(text), delimiter=separator)
            place = ""
            try:
                for row in reader:
                    place = f"{path}:{reader.line_num}"
                    if None in row or None in row.values():
                        found = sum(v is not None for v in row.values())
                        wanted = len(reader.fieldnames or ())
                        reason = f"{found} or more fields under a header of {wanted}"
                        yield place, Reject(place, reason)
                    else:
                        yield place, row
                if not place:
                    yield str(path), Reject(str(path), "no rows", empty=True)
            except UnicodeDecodeError as error:
                place = f"{path}:{reader.line_num + 1}"
                yield place, Reject(place, f"not UTF-8 from here on ({error.reason})")
            except csv.Error as error:
                place = f"{path}:{reader.line_num}"
                yield place, Reject(place, f"not readable as CSV from here on: {error}")


class DecodedConfig(TableConfig):
    """Tables that a library in C++ decodes, by another process; not a choice by itself."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        return apart(self.decoded, path, self.wait, (__name__,))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """The rows of a file, decoded by this process; a Reject from where it is damaged on."""
        size, held = path.stat().st_size, 0
        try:
            for record in super()._file(path):
                if isinstance(record, Record) and isinstance(record.raw, str):
                    held += len(record.raw)
                    allow(held, size)
                yield record
        except MemoryError:
            raise
        except Exception as error:  # Arrow's, and what its damaged answers bring about
            yield Reject(str(path), f"damaged from here on: {error}")


class ParquetConfig(DecodedConfig):
    """Rows of Parquet files; the sums of their pages are looked at where there are such."""

    name: Literal["parquet"] = "parquet"
    pattern: str = "**/*.parquet"

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        with path.open("rb") as file:
            table = pq.ParquetFile(file, page_checksum_verification=True)
            if table.metadata.num_rows > (size := path.stat().st_size):
                raise ValueError(f"{table.metadata.num_rows:,} rows in {size:,} bytes")
            known = [n for n in self.columns if n in table.schema_arrow.names]
            columns = known if self.field in known else None  # all, so that a hint can be given
            rows, held = 0, 0
            for batch in table.iter_batches(SOME, columns=columns):  # heads of pages have no sums
                rows, held = rows + len(batch), held + batch.nbytes
                allow(held, size)
            if rows != table.metadata.num_rows:
                raise ValueError(f"{rows:,} of {table.metadata.num_rows:,} rows")
            yield from _numbered(path, table.iter_batches(SOME, columns=columns))


class ArrowConfig(DecodedConfig):
    """Rows of Arrow files: what `datasets` writes with save_to_disk, or into its cache."""

    name: Literal["arrow"] = "arrow"
    pattern: str = "**/*.arrow"

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic == b"ARROW1":
                table = pa.ipc.open_file(file)
                batches = (table.get_batch(i) for i in range(table.num_record_batches))
                yield from _numbered(path, batches)
            else:
                yield from _numbered(path, pa.ipc.open_stream(file))


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Line by line, none of them without end."""
    while line := text.readline(FIELD + 1):
        if len(line) > FIELD:
            raise csv.Error(f"a line of more than {FIELD:,} characters")
        yield line


def _numbered(path: UPath, batches: Any) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield f"{path}:row {number}", row
    if not number:
        yield str(path), Reject(str(path), "no rows", empty=True)
