"""What tables hold: columns, and pictures or sounds in a column or named there by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from broadbase.core.errors import ConfigError
from broadbase.core.sources import Record, SourceConfig
from broadbase.data.sources.fields import FULL_ROW, ColumnsConfig, column_hint, missing, value
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.json_files import JsonConfig, JsonLinesConfig
from broadbase.data.sources.manifests import ListedConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.texts import TextFilesConfig

FILES = {"image": ImageFilesConfig, "text": TextFilesConfig, "audio": AudioFilesConfig}
TABLES = (JsonLinesConfig, CsvConfig, ParquetConfig, ArrowConfig, JsonConfig)
TEXTS = ("text", "caption", "captions", "sentence", "description", "transcript", "transcription")
LOOK = 100  # rows of a table that are looked at

Row = Mapping[str, Any]


def tables_at(path: str) -> list[ColumnsConfig]:
    """Return a source for each kind of table that there is at a path."""
    return [source for source in (table(path=path) for table in TABLES) if source.holds()]


def first_rows(table: ColumnsConfig) -> list[Row]:
    """Return the first rows of a table with all their columns."""
    full = table.replace(field=FULL_ROW)
    items = islice(full.records(), LOOK)
    return [item.raw for item in items if isinstance(item, Record)]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the names of the columns of some rows, each once."""
    return list(dict.fromkeys(name for row in rows for name in row))


def medium(table: ColumnsConfig, kind: str) -> SourceConfig | None:
    """Return the pictures or sounds of a table.

    In a column of it, or named there by their paths.
    """
    rows = first_rows(table)
    columns = sorted(columns_of(rows), key=lambda name: name != kind)
    listings = (listing(table, rows, name, kind) for name in columns)
    return next((source for source in listings if source), None)


def listing(table: ColumnsConfig, rows: Sequence[Row], name: str, kind: str) -> SourceConfig | None:
    """Return what a column holds or names of a kind; None where it does not."""
    values = [each for row in rows if not missing(each := value(row, name))]
    folder = table.root.parent if table.root.is_file() else table.root
    files = FILES[kind](path=str(folder))
    if not values:
        return None
    if kind == "image" and all(isinstance(_part(each, "bytes"), bytes) for each in values):
        return table.replace(field=name)
    for field, part in ((name, None), (f"{name}.path", "path")):
        if all(_names(files, _part(each, part) if part else each) for each in values):
            return ListedConfig(table=table.replace(field=field), files=files)
    return None


def _part(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else None


def _names(files: FilesConfig, text: Any) -> bool:
    """Return whether a value looks like the path of such a file."""
    return isinstance(text, str) and "\n" not in text and files.wants(PurePosixPath(text).name)


def texts_of(table: ColumnsConfig) -> ColumnsConfig:
    """Return the column of a table that holds its texts.

    Raise ConfigError where that is not clear.
    """
    rows = first_rows(table)
    columns = [
        name
        for name in columns_of(rows)
        if all(isinstance(row.get(name), str | None) for row in rows)
        and not any(listing(table, rows, name, kind) for kind in ("image", "audio"))
    ]
    usual = [name for name in TEXTS if name in columns]
    if not usual and len(columns) != 1:
        raise ConfigError(
            f"{table.path} has no column `text`{column_hint('text', columns)};"
            " call the one of texts `text`"
        )
    return table.replace(field=[*usual, *columns][0])
