"""Tables: CSV, Parquet and Arrow files, a Hugging Face dataset on disk among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from broadbase.core.contracts import Record, Reject
from broadbase.data.sources import ColumnsConfig, opened

FIELD = 16 << 20  # the longest field of a CSV row


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
            reader = csv.DictReader(text, delimiter=separator)
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
            except UnicodeDecodeError as error:
                place = f"{path}:{reader.line_num + 1}"
                yield place, Reject(place, f"not UTF-8 from here on ({error.reason})")
            except csv.Error as error:
                place = f"{path}:{reader.line_num}"
                yield place, Reject(place, f"not readable as CSV from here on: {error}")


class ParquetConfig(TableConfig):
    """Rows of Parquet files."""

    name: Literal["parquet"] = "parquet"
    pattern: str = "**/*.parquet"

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        with path.open("rb") as file, _readable(path) as bad:
            table = pq.ParquetFile(file)
            known = [n for n in self.columns if n in table.schema_arrow.names]
            columns = known if self.field in known else None  # all, so that a hint can be given
            yield from _numbered(path, table.iter_batches(256, columns=columns))
        yield from bad


class ArrowConfig(TableConfig):
    """Rows of Arrow files: what `datasets` writes with save_to_disk, or into its cache."""

    name: Literal["arrow"] = "arrow"
    pattern: str = "**/*.arrow"

    def _rows(self, path: UPath) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
        with path.open("rb") as file, _readable(path) as bad:
            magic = file.read(6)
            file.seek(0)
            if magic == b"ARROW1":
                table = pa.ipc.open_file(file)
                batches = (table.get_batch(i) for i in range(table.num_record_batches))
                yield from _numbered(path, batches)
            else:
                yield from _numbered(path, pa.ipc.open_stream(file))
        yield from bad


@contextmanager
def _readable(path: UPath) -> Iterator[list[tuple[str, Reject]]]:
    """Collects as a reject what makes a file unreadable from some row on."""
    bad: list[tuple[str, Reject]] = []
    try:
        yield bad
    except pa.ArrowException as error:
        bad.append((str(path), Reject(str(path), f"damaged from here on: {error}")))


def _numbered(path: UPath, batches: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield f"{path}:row {number}", row
