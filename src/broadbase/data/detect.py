"""What a folder holds: one source for every kind of file in it that can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.core.trees import read_tree
from broadbase.data.samples.catalog import sample
from broadbase.data.samples.sets import SAMPLES
from broadbase.data.sources.cells import H5adConfig
from broadbase.data.sources.fields import (
    ABSENT,
    FULL_ROW,
    ColumnsConfig,
    column_hint,
    missing,
    value,
)
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig
from broadbase.data.sources.finding import counted, endings
from broadbase.data.sources.json_files import JsonConfig, JsonLinesConfig
from broadbase.data.sources.manifests import ListedConfig
from broadbase.data.sources.sequences import SdfConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.data.store.store import open_store

FILES = {"image": ImageFilesConfig, "text": TextFilesConfig, "audio": AudioFilesConfig}
STORE = "store:"  # prepared data, whose own sources are read
TABLES = (JsonLinesConfig, CsvConfig, ParquetConfig, ArrowConfig, JsonConfig)
TEXTS = ("text", "caption", "captions", "sentence", "description", "transcript", "transcription")
LOOK = 100  # rows of a table that are looked at

Row = Mapping[str, Any]


def detect(path: str, *plain: FilesConfig) -> Sequence[SourceConfig]:
    """Return the sources of a folder, a file, "sample:NAME", "source:FILE.yaml" or "store:FOLDER".

    `plain` read a modality's own files; the others are tables of records, or of paths of pictures
    or sounds where the modality is of such. A table counts where one of its first rows can be read.
    Where nothing matches the answer is the first of `plain`, whose error says what there is.
    """
    scheme, rest = _scheme(path)
    if scheme is not None:
        return scheme.sources(rest)
    own = [source for source in plain if source.holds()]
    tables = _tables(path)
    kind = next((kind for kind, files in FILES.items() if isinstance(plain[0], files)), "text")
    media = [source for table in tables if (source := _medium(table, kind))]
    good = media if kind != "text" else [table for table in tables if _readable(table)]
    return [*own, *good] or tables or plain[:1]


def pairs(path: str, kinds: Sequence[str] = ("image", "text")) -> dict[str, SourceConfig]:
    """Return records of several kinds, by modality.

    Those of a sample set that has them; columns of a table, with pictures and sounds in it or named
    by their paths; or files of one name (cat.png, cat.txt). ConfigError where a sample set or a
    table has not all.
    """
    scheme, rest = _scheme(path)
    if scheme is not None:
        return scheme.pairs(rest, kinds)
    for table in _tables(path):
        media = {kind: _medium(table, kind) for kind in kinds if kind != "text"}
        columns = {kind: each for kind, each in media.items() if each}
        if columns:
            if lacking := [kind for kind in media if kind not in columns]:
                raise ConfigError(f"{table.path} has no column of {lacking[0]} files")
            return columns | ({"text": _texts(table)} if "text" in kinds else {})
    return {kind: FILES[kind](path=path) for kind in kinds}


def labelled(path: str, field: str, label: str) -> SourceConfig:
    """Return the source of labelled records at a path.

    It is a sample or named source, a table, cells, molecules, or classes in folders.

    A table counts where it has the column `label`, and `field` or paths of pictures or sounds. Of
    the kinds of files in folders the one counts of which there are most. DataError says what lacks.
    """
    if source := named(path):
        return source
    tables = _tables(path)
    for table in tables:
        if source := _labelled(table, field, label):
            return source
    for other in (H5adConfig(path=path, label=label), SdfConfig(path=path, label=label)):
        if other.holds():
            return other
    classes = (
        ImageFilesConfig(path=path, labels="folder"),
        VideoFilesConfig(path=path, labels="folder"),
        AudioFilesConfig(path=path, labels="folder"),
        TextFilesConfig(path=path, labels="folder"),
    )
    most = max(classes, key=in_folders)
    if in_folders(most):
        return most
    raise DataError(_no_labels(path, tables, field, label))


def media(path: str) -> SourceConfig:
    """Return a source of pictures, sounds or clips.

    It is a sample or named source, or the files of a folder.
    """
    if chosen := named(path):
        return chosen
    kinds = (ImageFilesConfig, AudioFilesConfig, VideoFilesConfig)
    plain = [kind(path=path) for kind in kinds]
    return next((source for source in plain if source.holds()), plain[0])


def named(path: str) -> SourceConfig | None:
    """Return the source that "sample:NAME" or "source:FILE.yaml" names; None for other paths."""
    scheme, rest = _scheme(path)
    return scheme.sources(rest)[0] if scheme is not None and scheme.single else None


class _Scheme(NamedTuple):
    """What a path of data that begins with a scheme's name and a colon means."""

    sources: Callable[[str], list[SourceConfig]]
    pairs: Callable[[str, Sequence[str]], dict[str, SourceConfig]]  # by modality
    single: bool = True  # whether the path names one source


def _scheme(path: str) -> tuple[_Scheme | None, str]:
    """Return the scheme of a path, and what follows it; None where it has none."""
    name, _, rest = path.partition(":")
    return SCHEMES.get(name), rest


def _settings(file: str) -> list[SourceConfig]:
    """Return the source whose settings a YAML file holds."""
    return [SourceConfig.from_tree(read_tree(Path(file), "the settings of a source"))]


def _no_pairs(file: str, kinds: Sequence[str]) -> dict[str, SourceConfig]:
    raise ConfigError(
        f"{file} holds the settings of one source, and pairs of {' and '.join(kinds)} need several;"
        " give a table or a folder with --data"
    )


def _sample_pairs(name: str, kinds: Sequence[str]) -> dict[str, SourceConfig]:
    """Return the sources of a sample set by modality; ConfigError where it lacks one."""
    sources = sample(name).kinds
    if not sources.keys() >= set(kinds):
        names = ", ".join(n for n, each in SAMPLES.items() if each.kinds.keys() >= set(kinds))
        what = " and ".join(kinds)
        raise ConfigError(f"sample set {name!r} has no pairs of {what}; these have: {names}")
    return {kind: sources[kind] for kind in kinds}


def _stored(folder: str) -> list[tuple[str, SourceConfig]]:
    """Return the sources that the stores in a folder were made of, each with its modality."""
    paths = sorted(Path(folder).glob("*/manifest.json"))
    manifests = [open_store(path.parent).manifest for path in paths]
    return [(m["kind"], SourceConfig.from_tree(m["source"])) for m in manifests]


SCHEMES = {  # of a path of data: "sample:NAME", "source:FILE.yaml", "store:FOLDER"
    "sample": _Scheme(lambda name: [sample(name).source], _sample_pairs),
    "source": _Scheme(_settings, _no_pairs),
    "store": _Scheme(
        lambda folder: [source for _, source in _stored(folder)],
        lambda folder, _: dict(_stored(folder)),
        single=False,
    ),
}


def _tables(path: str) -> list[ColumnsConfig]:
    return [source for source in (table(path=path) for table in TABLES) if source.holds()]


def _readable(source: SourceConfig) -> bool:
    return any(isinstance(item, Record) for item in islice(source.records(), LOOK))


def _rows(table: ColumnsConfig) -> list[Row]:
    """Return the first rows of a table with all their columns."""
    full = table.replace(field=FULL_ROW)
    items = islice(full.records(), LOOK)
    return [item.raw for item in items if isinstance(item, Record)]


def _labelled(table: ColumnsConfig, field: str, label: str) -> SourceConfig | None:
    """Return a table with its labels, or the files that it lists; None where it lacks either."""
    rows = _rows(table)
    if not any(value(row, label) is not ABSENT for row in rows):
        return None
    table = table.replace(field=field, label=label)
    if any(value(row, field) is not ABSENT for row in rows):
        listed = (_listing(table, rows, field, kind) for kind in ("image", "audio"))
        return next((source for source in listed if source), table)
    return next((source for kind in ("image", "audio") if (source := _medium(table, kind))), None)


def _medium(table: ColumnsConfig, kind: str) -> SourceConfig | None:
    """Return the pictures or sounds of a table.

    In a column of it, or named there by their paths.
    """
    rows = _rows(table)
    columns = sorted(_columns(rows), key=lambda name: name != kind)
    listings = (_listing(table, rows, name, kind) for name in columns)
    return next((source for source in listings if source), None)


def _listing(
    table: ColumnsConfig, rows: Sequence[Row], name: str, kind: str
) -> SourceConfig | None:
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


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _texts(table: ColumnsConfig) -> ColumnsConfig:
    """Return the column of a table that holds its texts.

    Raise ConfigError where that is not clear.
    """
    rows = _rows(table)
    columns = [
        name
        for name in _columns(rows)
        if all(isinstance(row.get(name), str | None) for row in rows)
        and not any(_listing(table, rows, name, kind) for kind in ("image", "audio"))
    ]
    usual = [name for name in TEXTS if name in columns]
    if not usual and len(columns) != 1:
        raise ConfigError(
            f"{table.path} has no column `text`{column_hint('text', columns)};"
            " call the one of texts `text`"
        )
    return table.replace(field=[*usual, *columns][0])


def in_folders(source: FilesConfig) -> int:
    """Return how many of its files lie in a folder below its own."""
    root = source.root
    if not root.is_dir():
        return 0
    return sum("/" in name and source.wants(name) for name in source.listing().files)


def _no_labels(path: str, tables: Sequence[ColumnsConfig], field: str, label: str) -> str:
    """Return why a source has no labelled record."""
    for table in tables:
        rows, columns = _rows(table), {"field": field, "label": label}
        for option, name in columns.items() if rows else ():
            if all(value(row, name) is ABSENT for row in rows):
                names = _columns(rows)
                other = column_hint(name, names)
                return f"{path} has no column `{name}`{other}; name it with --{option}"
        for item in islice(table.records(), LOOK):
            if isinstance(item, Reject) and not item.empty:
                return f"{item.origin}: {item.reason}"
    root = TextFilesConfig(path=path).root
    if not root.exists():
        return f"{root} does not exist; give a folder or a file with --data"
    there = [root.name] if root.is_file() else TextFilesConfig(path=path).listing().files
    return (
        f"{path} has no labels that can be read: it holds {counted(endings(there)) or 'nothing'};"
        " give a table with a column for them, or a folder for each class"
    )
