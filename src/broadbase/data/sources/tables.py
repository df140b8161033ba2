"""Tables: CSV, Parquet and Arrow files, a Hugging Face dataset on disk among them."""

from __future__ import annotations

import csv
import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import IO, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import StringConstraints
from upath import UPath

from broadbase.core.sources import Record, Reject, parts
from broadbase.data.sources.compressed import set_limits
from broadbase.data.sources.csv_rows import FIELD, Bad, HopelessError, rows
from broadbase.data.sources.fields import ColumnsConfig
from broadbase.data.sources.isolated import apart
from broadbase.data.sources.texts import EncodedConfig

SEPARATORS = ",\t;|"
SAID = re.compile(rb'"?sep=(.)"?\r?\n?')  # a first line that tells Excel
SOME = 16  # rows that are decoded at once: a long word of a dictionary may be in each
ROWS = 1 << 22  # rows that any Parquet file may have: equal ones take next to no bytes

Letter = Annotated[str, StringConstraints(min_length=1, max_length=1)]


class CsvConfig(ColumnsConfig, EncodedConfig):
    """Rows of values between separators, under a header or under `names`."""

    name: Literal["csv"] = "csv"
    pattern: str = "**/*.csv **/*.tsv **/*.csv.gz **/*.tsv.gz **/*.csv.zst"
    separator: Letter | None = None
    """The character between values; None: the one by which the header has the columns."""
    names: tuple[str, ...] = ()
    """The names of the columns of files without a header; empty: the first row has them."""
    escape: Letter | None = None
    """The character before a quote within a field; None: a quote is written twice."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        size = path.stat().st_size
        with self._opened(path) as file:
            head = file.readline(FIELD).removeprefix(b"\xef\xbb\xbf")
            said = SAID.fullmatch(head)
            head = file.readline(FIELD) if said else head
        separator = said[1].decode("latin-1") if said else self._separator(path, head)
        with self._opened(path) as file:
            if said:
                file.readline()
            lines = rows(file, separator, self.escape, 1 + bool(said))
            try:
                yield from self._records(path, size, lines)
            except HopelessError as error:
                yield Reject(str(path), f"not CSV: {error}")

    def _records(
        self, path: UPath, size: int, lines: Iterator[tuple[int, list[str] | Bad]]
    ) -> Iterator[Record | Reject]:
        names, count = list(self.names), 0
        if not names:
            first, header = next(lines, (1, list[str]()))
            if isinstance(header, Bad):
                yield Reject(f"{path}:{first}", f"no header can be read: {header.why}", lost=size)
                return
            names = [name.strip() for name in header]
        if twice := self.twice(names):
            reason = f"the header has the column `{twice}` twice; rename one of them"
            yield Reject(f"{path}:1", reason, lost=size)
            return
        for line, row in lines:
            origin, count = f"{path}:{line}", count + 1
            if isinstance(row, Bad):
                yield Reject(origin, row.why, lost=min(row.lost, size))
            elif len(row) != len(names):
                yield Reject(origin, f"{len(row)} fields under a header of {len(names)}")
            else:
                yield self._row(origin, dict(zip(names, row, strict=True)))
        if not count:
            yield Reject(str(path), "no rows", empty=True)

    def _separator(self, path: UPath, head: bytes) -> str:
        """Return the one that is set, or by which the first line has most of the columns."""
        if self.separator is not None:
            return self.separator
        usual = "\t" if ".tsv" in path.name.lower() else ","
        line = head.decode(errors="replace")
        wanted = set(self.columns)

        def fit(separator: str) -> tuple[int, bool, int]:
            try:
                columns = [
                    name.strip() for name in next(csv.reader([line], delimiter=separator), [])
                ]
            except csv.Error:
                columns = []
            there = len(self.names) == len(columns) if self.names else len(wanted & {*columns})
            return int(there), separator == usual and bool(there), len(columns)

        best: str = max([usual, *SEPARATORS], key=fit)
        return best


class DecodedConfig(ColumnsConfig):
    """Tables that a library in C++ decodes, by another process; not a choice by itself."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        return apart(self.decoded, path, self.wait, (__name__,))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the rows of a file, decoded by this process.

        A Reject from where it is damaged on.
        """
        size, held, number, done = path.stat().st_size, 0, 0, 0.0
        try:
            with path.open("rb") as file:
                names, batches = self._batches(file, size)
                if twice := self.twice(names):
                    reason = f"the column `{twice}` stands twice in it; rename one of them"
                    yield Reject(str(path), reason)
                    return
                for batch, share in batches:
                    for row in batch.to_pylist():
                        number += 1
                        record = self._row(f"{path}:row {number}", row)
                        if isinstance(record, Record):
                            held += sum(len(x) for x in parts(record.raw) if isinstance(x, str))
                            set_limits(held, size)
                        yield record
                    done = share
            if not number:
                yield Reject(str(path), "no rows", empty=True)
        except MemoryError:
            raise
        except Exception as error:  # Arrow's, and what its damaged answers bring about
            lost = math.ceil(size * (1 - done))
            yield Reject(str(path), f"damaged from here on: {error}", lost=lost)

    @abstractmethod
    def _batches(self, file: IO[bytes], size: int) -> tuple[Sequence[str], Batches]:
        """Return the names of all columns, and batches of rows.

        Each batch comes with the share of the file that is read by then.
        """


Batches = Iterator[tuple[pa.RecordBatch, float]]


class ParquetConfig(DecodedConfig):
    """Rows of Parquet files; the sums of their pages are looked at where there are such."""

    name: Literal["parquet"] = "parquet"
    pattern: str = "**/*.parquet **/*.pq"

    def _batches(self, file: IO[bytes], size: int) -> tuple[Sequence[str], Batches]:
        table = pq.ParquetFile(file, page_checksum_verification=True)
        names = table.schema_arrow.names
        outer = {name if name in names else name.split(".")[0] for name in self.columns}
        field = self.field if self.field in names else self.field.split(".")[0]
        columns = [n for n in names if n in outer] if field in names else None  # all, for a hint
        return names, self._checked(table, size, columns)

    def _checked(self, table: Any, size: int, columns: list[str] | None) -> Batches:
        """Return all rows, once they were read to the end: heads of pages have no sums."""
        total, count, held = table.metadata.num_rows, 0, 0
        if total > max(ROWS, size):
            raise ValueError(f"{total:,} rows in {size:,} bytes: a decompression bomb?")
        for batch in table.iter_batches(SOME, columns=columns):
            count, held = count + len(batch), held + batch.nbytes
            set_limits(held, size)
        if count != total:
            raise ValueError(f"{count:,} of {total:,} rows")
        count = 0
        for batch in table.iter_batches(SOME, columns=columns):
            count += len(batch)
            yield batch, count / total


class ArrowConfig(DecodedConfig):
    """Rows of Arrow files: what `datasets` writes with save_to_disk, or into its cache."""

    name: Literal["arrow"] = "arrow"
    pattern: str = "**/*.arrow **/*.feather"

    def _batches(self, file: IO[bytes], size: int) -> tuple[Sequence[str], Batches]:
        magic = file.read(6)
        file.seek(0)
        if magic == b"ARROW1":
            table = pa.ipc.open_file(file)
            total = table.num_record_batches
            return table.schema.names, ((table.get_batch(i), (i + 1) / total) for i in range(total))
        stream = pa.ipc.open_stream(file)
        return stream.schema.names, ((batch, file.tell() / size) for batch in stream)
