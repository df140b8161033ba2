"""What a dropped table holds, and which of its columns are guessed to be the text and the label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from broadbase.adapt.kinds import KINDS, Kind
from broadbase.adapt.labelled import as_it_is
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Record
from broadbase.data.detect import labelled
from broadbase.data.sources.fields import FULL_ROW, missing, word
from broadbase.data.table_columns import TEXTS, tables_at
from broadbase.studio.uploads import Upload

ROWS, PREVIEW = 20_000, 5  # rows that are looked at, and that are shown
SHOWN = 120  # characters of a value that is shown
LABELS = (
    *("label", "labels", "class", "classes", "category", "categories", "target", "topic", "tag"),
    *("tags", "sentiment", "kind", "type", "subject", "outcome", "rating", "score", "y"),
)
OPTION = re.compile(r" \(otherwise say --kind [^)]*\)")  # in a note of `adapt`
CHOOSE = "; if that is wrong, choose the kind of label above"
FEW, SHARE = 50, 0.5  # classes, and the share of different values, of a column that looks like one


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    filled: int  # values that are there
    distinct: int
    numbers: bool  # whether all values are numbers
    length: float  # characters of a value on average
    words: float  # the same in words

    @property
    def is_class(self) -> bool:
        """Whether it looks like the names of classes."""
        return 2 <= self.distinct <= min(FEW, max(2, SHARE * self.filled))

    @property
    def what(self) -> str:
        """What it holds, in words."""
        if not self.filled:
            return "empty"
        if self.numbers:
            return f"{self.distinct:,} different numbers"
        long = f", {self.words:.0f} words on average" if self.words > 1.5 else ""
        return f"{self.distinct:,} different values{long}"


@dataclass(frozen=True)
class Table:
    """A table that was looked at."""

    columns: Sequence[Column]
    rows: int
    cut: bool  # whether there are more rows than were looked at
    unread: str  # how many rows cannot be read, and why the first one cannot
    preview: Sequence[Sequence[str]]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class Check:
    """What the labelled records of a table are: the notes, or the error, of reading them."""

    notes: Sequence[str] = ()
    kind: str = ""
    error: str = ""


def look(upload: Upload) -> Table:
    """Read the first rows of a table; DataError says why none can be read, and what to do."""
    tables = tables_at(str(upload.path))
    if not tables:
        raise DataError(f"{upload.name} is no table that is read; drop a CSV file")
    rows, unread, first = list[Mapping[str, Any]](), 0, ""
    items = list(islice(tables[0].replace(field=FULL_ROW).records(), ROWS + 1))
    for item in items[:ROWS]:
        if isinstance(item, Record):
            rows.append(item.raw)
        else:
            unread, first = unread + 1, first or upload.said(f"{item.origin}: {item.reason}")
    if not rows:
        why = first or "it has no rows"
        raise DataError(
            f"no row of {upload.name} can be read: {why}; the first line must name the columns, and"
            " every other line is a record"
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    preview = [[_shown(row.get(name)) for name in names] for row in rows[:PREVIEW]]
    said = f"{unread:,} rows cannot be read (first: {first})" if unread else ""
    columns = [_column(name, rows) for name in names]
    return Table(columns, len(rows), len(items) > ROWS, said, preview)


def guess_field(table: Table) -> tuple[str, str]:
    """Return the column that looks like the text, and why; two empty words where none does."""
    texts = [column for column in table.columns if column.filled and not column.numbers]
    if not texts:
        return "", ""
    best = max(texts, key=lambda c: (c.name.lower() in TEXTS, c.words > 1.5, c.length))
    if best.name.lower() in TEXTS:
        return best.name, "its name says so"
    return best.name, f"its texts are the longest, {best.length:,.0f} characters on average"


def guess_label(table: Table, field: str) -> tuple[str, str]:
    """Return the column that looks like the label, and why; two empty words where none does."""
    others = [c for c in table.columns if c.name != field and c.distinct > 1]
    named = [c for name in LABELS for c in others if c.name.lower() == name]
    if named:
        return named[0].name, "its name says so"
    classes = [column for column in others if column.is_class]
    if classes:
        best = min(reversed(classes), key=lambda c: (c.numbers, c.distinct))
        return best.name, f"it has few values, {best.distinct:,} different ones"
    numbers = [column for column in others if column.numbers and column.distinct < column.filled]
    if numbers:
        return numbers[-1].name, "it has numbers, which can be predicted"
    return "", ""


def check(upload: Upload, field: str, label: str, kind: Kind | None) -> Check:
    """Read the labelled records as `adapt` does; no base is needed for that."""
    try:
        source = labelled(str(upload.path), field, label)
        how: dict[str, Any] = {"kind": kind, "read": as_it_is}
        task: Task = read_task(upload.path.stem, "text", source, **how)
    except (BroadbaseError, OSError) as error:
        return Check(error=upload.said(str(error)))
    notes = [upload.said(line) for line in (task.summary, *task.notes)]
    guessed = kind.name if kind else _guessed(notes)
    return Check([OPTION.sub(CHOOSE, line) for line in notes], guessed)


def _guessed(notes: Sequence[str]) -> str:
    """Return the kind that a note says was guessed."""
    return next((name for name in KINDS for note in notes if f"read as {name}:" in note), "")


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    values = [value for row in rows if not missing(value := row.get(name))]
    words = [word(value) or "" if not isinstance(value, dict) else "" for value in values]
    count = max(1, len(values))
    return Column(
        name,
        len(values),
        len(set(words)),
        bool(words) and all(map(_is_number, words)),
        sum(map(len, words)) / count,
        sum(len(each.split()) for each in words) / count,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    text = "" if missing(value) else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
