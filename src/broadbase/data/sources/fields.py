"""Rows with named columns: which of them are read, and what a missing value means."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from broadbase.core.config import hint
from broadbase.core.sources import Pair, Record, Reject
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.pictures import PIXELS, picture

FULL_ROW = "*"  # as a field: all columns of the row
SHOWN, LONG = 8, 30  # names of columns in a message, and characters of one


class ColumnsConfig(FilesConfig):
    """Files of rows with named columns; not a choice by itself.

    A column may lie within another: `meta.title`, `answers.0.text`. A label, key or group that is
    null, NaN or blank is missing.
    """

    fixed: ClassVar[bool] = True  # whether every row has every column
    field: str = "text"
    """The column of the text, or of the picture as {"bytes": ...}."""
    second: str | None = None
    """The column of the second item of a pair, of the same kind; None: records are no pairs."""
    label: str | None = None
    """The column of the label; None: no labels."""
    key: str | None = None
    """The column that identifies a row among paired sources; None: its origin does."""
    group: str | None = None
    """The column whose equal values keep rows on one side of the split; None: no groups."""

    @property
    def columns(self) -> list[str]:
        """Return those that are read."""
        names = (*self._items, self.label, self.key, self.group)
        return [name for name in names if name]

    def twice(self, names: Iterable[str]) -> str | None:
        """Return the first column that is read and stands twice in a header."""
        header = list(names)
        outer = [name if name in header else name.split(".")[0] for name in self.columns]
        return next((name for name in outer if header.count(name) > 1), None)

    def _row(self, origin: str, row: Mapping[str, Any]) -> Record | Reject:
        if self.field == FULL_ROW:
            return Record(dict(row), origin)
        values = {name: value(row, name) for name in self.columns}
        for name in self.columns if self.fixed else self._items:
            if values[name] is ABSENT:
                option = "; name it with --field" if name == self.field else ""
                return Reject(origin, f"no field `{name}`{column_hint(name, row)}{option}")
        words = dict[str, str | None]()
        for name in filter(None, (self.label, self.key, self.group)):
            listed = name == self.label and isinstance(values[name], list)
            said = _words(values[name]) if listed else values[name]
            if isinstance(said, list | dict | bytes):
                kind = type(said).__name__
                return Reject(origin, f"field `{name}` is {kind}, expected a word or a number")
            words[name] = word(said)
        items = [self._content(origin, name, values[name]) for name in self._items]
        for item in items:
            if isinstance(item, Reject):
                return item
        record = _joined([item for item in items if isinstance(item, Record)])
        label, key, group = (words.get(name or "") for name in (self.label, self.key, self.group))
        return replace(record, label=label, key=key or record.key, group=group or record.group)

    def _content(self, origin: str, name: str, raw: Any) -> Record | Reject:
        """Return the text or the picture in a column."""
        if isinstance(raw, Mapping) and isinstance(raw.get("bytes"), bytes):
            return picture(origin, io.BytesIO(raw["bytes"]), PIXELS)
        if missing(raw):
            return Reject(origin, f"field `{name}` is empty", empty=True)
        if not isinstance(raw, str):
            return Reject(origin, f"field `{name}` is {type(raw).__name__}, expected a text")
        return Record(raw, origin)

    @property
    def _items(self) -> list[str]:
        """The columns that a record is made of."""
        return [self.field] if self.second is None else [self.field, self.second]


def _joined(items: Sequence[Record]) -> Record:
    """Return one record of the items of a row: the only one, or the pair of both."""
    if len(items) == 1:
        return items[0]
    converted = tuple(dict.fromkeys(what for item in items for what in item.converted))
    return replace(items[0], raw=Pair(*(item.raw for item in items)), converted=converted)


ABSENT = object()


def value(row: Mapping[str, Any], name: str) -> Any:
    """Return a column of a row, or what lies within one; ABSENT where there is none."""
    if name in row:
        return row[name]
    inner: Any = row
    for part in name.split("."):
        if isinstance(inner, Mapping) and part in inner:
            inner = inner[part]
        elif isinstance(inner, list) and part.isdecimal() and int(part) < len(inner):
            inner = inner[int(part)]
        else:
            return ABSENT
    return inner


def missing(value: Any) -> bool:
    """Return whether a value is null, NaN or blank."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value is ABSENT or (isinstance(value, float) and math.isnan(value))


def word(value: Any) -> str | None:
    """Return a label, key or group as text, None where it is missing; 1.0 is written as 1."""
    if missing(value):
        return None
    is_integer = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if is_integer else str(value)


def _words(values: list[Any]) -> Any:
    """Return a list of words and numbers as JSON; any other list unchanged."""
    if any(isinstance(value, list | dict | bytes) for value in values):
        return values
    return json.dumps([text for value in values if (text := word(value))], ensure_ascii=False)


def column_hint(name: str, names: Iterable[str]) -> str:
    """Return '; did you mean `x`?' or the columns there are, cut where they are many or long."""
    short = [each if len(each) <= LONG else each[:LONG] + "..." for each in names]
    more = [f"and {len(short) - SHOWN} more"] if len(short) > SHOWN else []
    said = hint(name, short)
    if said.startswith("; known") and more:
        said = "; known: " + ", ".join([*sorted(short)[:SHOWN], *more])
    return said
