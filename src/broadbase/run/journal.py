"""The journal of a run as pages show it: read once, from where the last reading ended, and thinned.

A curve of any length is kept as the mean, the lowest and the highest value of each of a few hundred
equal stretches of steps. When there are too many, neighbours are merged. So no value is left out of
a mean, and no spike is hidden.
"""

from __future__ import annotations

import io
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json
from pydantic_core import from_json

MOST = 400  # stretches of a curve; after a merge there are half as many
MOST_STEPS = 2**53  # which a float holds exactly
BLOCK = 1 << 22  # bytes that are read at once
RECENT = 50  # steps that the rate is of
TERMS = ("loss", "bits", "validation", "validation_bits")  # columns of numbers by term
NUMBERS = ("norm", "tokens", "seconds")
COLUMNS = ("step", *TERMS, *NUMBERS)

Row = Mapping[str, Any]
Numbers = NDArray[np.float64]


class Stretch(NamedTuple):
    """What a curve does over some steps."""

    step: float  # the mean of the steps
    mean: float
    low: float
    high: float


class Thinned:
    """A curve in at most MOST stretches of equally many steps."""

    def __init__(self) -> None:
        """Start with stretches of one step."""
        self.width = 1
        self.last: tuple[int, float] | None = None  # the newest point
        # By stretch: its number, the count, the sums of steps and values, the lowest, the highest
        self._table: Numbers = np.empty((0, 6))

    def extend(self, steps: Numbers, values: Numbers) -> None:
        """Take points; those that are not finite are left out."""
        finite = np.isfinite(values)
        at, value = np.asarray(steps, dtype=float)[finite], values[finite]
        if not len(at):
            return
        self.last = int(at[-1]), float(value[-1])
        ones = np.ones_like(at)
        new = np.stack([at // self.width, ones, at, value, value, value], axis=1)
        self._table = _merged(np.concatenate([self._table, new]))
        while len(self._table) > MOST:
            self.width *= 2
            self._table[:, 0] //= 2
            self._table = _merged(self._table)

    def stretches(self) -> list[Stretch]:
        """Return the stretches in the order of their steps."""
        _, count, steps, values, low, high = self._table.T
        columns = (steps / count, values / count, low, high)
        return [Stretch(*row) for row in np.stack(columns, axis=1).tolist()]

    def points(self) -> list[tuple[float, float]]:
        """Return the means by step."""
        return [(each.step, each.mean) for each in self.stretches()]

    def band(self) -> list[tuple[float, float, float]]:
        """Return the lowest and the highest values by step."""
        return [(each.step, each.low, each.high) for each in self.stretches()]


class History:
    """The metrics.jsonl of a run, read as far as it is written."""

    def __init__(self, path: Path) -> None:
        """Take the file, which need not be there yet."""
        self.path = path
        self._lock = threading.Lock()
        self._reset(0)

    def _reset(self, inode: int) -> None:
        self._inode, self._offset = inode, 0
        self.step = 0
        self.tokens = self.seconds = 0.0
        self.training: defaultdict[str, Thinned] = defaultdict(Thinned)  # in bits, if a term has
        self.held_out: defaultdict[str, Thinned] = defaultdict(Thinned)  # them, else in nats
        self.in_bits: set[str] = set()
        self.norm = Thinned()
        self.changes: list[tuple[int, Row]] = []  # of settings, by step
        self._recent: Numbers = np.empty((0, 2))  # tokens and seconds

    def update(self) -> bool:
        """Read what was written since; return whether there was anything.

        A file that was replaced, as by a resumed run, is read from its start.
        """
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    return self._read(file)
            except OSError:
                return False

    def _read(self, file: Any) -> bool:
        stat = self.path.stat()
        new = stat.st_ino != self._inode or stat.st_size < self._offset
        if new:
            self._reset(stat.st_ino)
        file.seek(self._offset)
        while block := file.read(BLOCK):
            end = block.rfind(b"\n") + 1
            if not end:  # a line that is not written to its end, or no journal at all
                break
            self._offset += end
            file.seek(self._offset)
            self._take(block[:end])
            new = True
        return new

    def _take(self, block: bytes) -> None:
        table, changes = _table(block)
        self.changes += changes
        for curves, nats, bits in (
            (self.training, "loss", "bits"),
            (self.held_out, "validation", "validation_bits"),
        ):
            terms = {name: (column, False) for name, column in _fields(table, nats)}
            terms |= {name: (column, True) for name, column in _fields(table, bits)}
            for name, ((steps, values), in_bits) in terms.items():
                curves[name].extend(steps, values)
                self.in_bits |= {name} if in_bits else set()
        taken = table.filter(table["loss"].is_valid())
        if not len(taken):
            return
        steps = taken["step"].to_numpy()
        self.step = int(steps[-1])
        self.norm.extend(steps, _numbers(taken["norm"]))
        cost = np.stack([_numbers(taken["tokens"]), _numbers(taken["seconds"])], axis=1)
        cost = np.nan_to_num(cost)
        self.tokens, self.seconds = np.add((self.tokens, self.seconds), cost.sum(0)).tolist()
        self._recent = np.concatenate([self._recent, cost])[-RECENT:]

    @property
    def rate(self) -> float:
        """The tokens a second of the last steps."""
        tokens, seconds = self._recent.sum(0).tolist()
        return tokens / seconds if seconds else 0.0

    @property
    def seconds_per_step(self) -> float:
        """The seconds of one of the last steps."""
        return float(self._recent[:, 1].mean()) if len(self._recent) else 0.0


def rows(block: bytes) -> list[Row]:
    """Return the rows in complete lines; those that a crash cut off are left out."""
    read = objects(block)
    return [row for row in read if type(row.get("step")) is int and abs(row["step"]) < MOST_STEPS]


def objects(block: bytes) -> list[Row]:
    """Return the objects in lines of JSON; lines that hold none are left out."""
    return [row for row in map(_row, block.splitlines()) if isinstance(row, dict)]


def _row(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return None


def _table(block: bytes) -> tuple[pa.Table, list[tuple[int, Row]]]:
    """Return complete lines as a table with all COLUMNS, and the changes of settings."""
    try:
        options = json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        table = json.read_json(io.BytesIO(block), read_options=options)
        if not table["step"].null_count and all(_fits(table, n) for n in table.column_names):
            return _complete(table), []
    except (pa.ArrowException, KeyError):
        pass  # changes of settings, or a line that was cut off: they are rare
    parsed = rows(block)
    changes = [(row["step"], row["changed"]) for row in parsed if type(row.get("changed")) is dict]
    plain = [{name: _plain(name, row.get(name)) for name in COLUMNS} for row in parsed]
    return _complete(pa.Table.from_pylist(plain)), changes


def _fits(table: pa.Table, name: str) -> bool:
    """Return whether a column is of the kind that a run writes."""
    kind = table[name].type
    if name in TERMS:
        return pa.types.is_struct(kind) and all(
            _is_number(kind.field(i).type) for i in range(kind.num_fields)
        )
    return name in ("step", "watched") or (name in NUMBERS and _is_number(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _plain(name: str, value: Any) -> Any:
    """Return the numbers in a field that are of the kind that a run writes; None of others."""
    if name in TERMS:
        terms = value.items() if isinstance(value, dict) else ()
        return {term: float(v) for term, v in terms if type(v) in (int, float)} or None
    return value if name == "step" else float(value) if type(value) in (int, float) else None


def _complete(table: pa.Table) -> pa.Table:
    """Return a table with all COLUMNS; those that the block lacks are empty."""
    for name in COLUMNS:
        if name not in table.column_names or table[name].type == pa.null():
            kind = pa.struct([]) if name in TERMS else pa.float64()
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, pa.nulls(len(table), kind))
    return table


def _fields(table: pa.Table, name: str) -> Iterator[tuple[str, tuple[Numbers, Numbers]]]:
    """Yield the terms in a column of objects: steps and values."""
    kind = table[name].type
    steps = table["step"].to_numpy()
    for i in range(kind.num_fields):
        column = pc.struct_field(table[name], [i])
        valid = column.is_valid().to_numpy()
        if valid.any():
            yield kind.field(i).name, (steps[valid], _numbers(column)[valid])


def _numbers(column: pa.ChunkedArray) -> Numbers:
    """Return a column as numbers, NaN for what is none."""
    return np.asarray(column.to_numpy(), dtype=float)


def _merged(table: Numbers) -> Numbers:
    """Return a table with one row for each stretch."""
    table = table[np.argsort(table[:, 0], kind="stable")]
    starts = np.flatnonzero(np.diff(table[:, 0], prepend=-1))
    merged = np.add.reduceat(table, starts, axis=0)
    merged[:, 0] = table[starts, 0]
    merged[:, 4] = np.minimum.reduceat(table[:, 4], starts)
    merged[:, 5] = np.maximum.reduceat(table[:, 5], starts)
    return merged
