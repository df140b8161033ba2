"""What a folder holds: one source for every kind of file in it that can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.core.trees import read_tree
from broadbase.data.samples.catalog import sample
from broadbase.data.samples.sets import SAMPLES
from broadbase.data.sources.cells import H5adConfig
from broadbase.data.sources.fields import ABSENT, ColumnsConfig, column_hint, value
from broadbase.data.sources.files import FilesConfig, ImageFilesConfig, Labels
from broadbase.data.sources.finding import counted, endings
from broadbase.data.sources.sequences import SdfConfig
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.sources.video import VideoFilesConfig
from broadbase.data.store.store import open_store
from broadbase.data.table_columns import (
    FILES,
    LOOK,
    Row,
    columns_of,
    first_rows,
    listing,
    medium,
    tables_at,
    texts_of,
)

NO_COLUMNS: Mapping[str, str] = {}
STORE = "store:"  # prepared data, whose own sources are read


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
    tables = tables_at(path)
    kind = next((kind for kind, files in FILES.items() if isinstance(plain[0], files)), "text")
    media = [source for table in tables if (source := medium(table, kind))]
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
    for table in tables_at(path):
        media = {kind: medium(table, kind) for kind in kinds if kind != "text"}
        columns = {kind: each for kind, each in media.items() if each}
        if columns:
            if lacking := [kind for kind in media if kind not in columns]:
                raise ConfigError(f"{table.path} has no column of {lacking[0]} files")
            return columns | ({"text": texts_of(table)} if "text" in kinds else {})
    return {kind: FILES[kind](path=path) for kind in kinds}


def labelled(
    path: str, field: str, label: str, columns: Mapping[str, str] = NO_COLUMNS
) -> SourceConfig:
    """Return the source of labelled records at a path.

    It is a sample or named source, a table, cells, molecules, or classes in folders.

    A table counts where it has the column `label`, and `field` or paths of pictures or sounds, and
    the `columns`, which may name its `group` and its `key`. Of the kinds of files in folders the
    one counts of which there are most. DataError says what lacks.
    """
    _must_be_table(path, columns)
    if source := named(path):
        return source
    tables = tables_at(path)
    for table in tables:
        if source := _with(table, field, {"label": label, **columns}):
            return source
    for other in (H5adConfig(path=path, label=label), SdfConfig(path=path, label=label)):
        if other.holds():
            return other
    most = max(_files(path, "folder"), key=in_folders)
    if in_folders(most):
        return most
    raise DataError(
        _lacking(path, tables, {"field": field, "label": label, **columns})
        or f"{path} has no labels that can be read: it holds {_contents(path)}; give a table with a"
        " column for them, or a folder for each class"
    )


def unlabelled(path: str, field: str, columns: Mapping[str, str]) -> SourceConfig:
    """Return the source of records at a path of which something is to be predicted.

    It is a sample or named source, a table, cells, molecules, or the files of a folder and below,
    of the kind of which there are most. `columns` may name the `label` and the `key` of a record; a
    table counts where it has these, and `field` or paths of pictures or sounds. The label of a file
    is the first folder that it lies in. DataError says what lacks.
    """
    _must_be_table(path, {option: c for option, c in columns.items() if option != "label"})
    if source := named(path):
        return source
    tables = tables_at(path)
    for table in tables:
        if source := _with(table, field, columns):
            return source
    label = {"label": columns["label"]} if "label" in columns else {}
    for other in (H5adConfig(path=path, **label), SdfConfig(path=path, **label)):
        if other.holds():
            return other
    most = max(_files(path, "folder"), key=_count)
    if _count(most) > sum(map(_count, tables)):
        return most
    raise DataError(
        _lacking(path, tables, {"field": field, **columns})
        or f"{path} has no records that can be read: it holds {_contents(path)}; give a table, or a"
        " folder of pictures, sounds or texts"
    )


def _must_be_table(path: str, columns: Mapping[str, str]) -> None:
    """DataError where there are columns to read, and no table."""
    if columns and (
        named(path) or (TextFilesConfig(path=path).root.exists() and not tables_at(path))
    ):
        name = next(iter(columns.values()))
        raise DataError(f"{path} is no table, so it has no column `{name}`; leave its option out")


def columns_at(path: str) -> list[str]:
    """Return the names of the columns of the tables at a path."""
    tables = [] if named(path) else tables_at(path)
    return columns_of([row for table in tables for row in first_rows(table)])


def _files(path: str, labels: Labels) -> Sequence[FilesConfig]:
    """Return the sources of a folder's pictures, clips, sounds and texts."""
    return (
        ImageFilesConfig(path=path, labels=labels),
        VideoFilesConfig(path=path, labels=labels),
        AudioFilesConfig(path=path, labels=labels),
        TextFilesConfig(path=path, labels=labels),
    )


def _count(source: FilesConfig) -> int:
    """Return how many files the source reads."""
    root = source.root
    if not root.is_dir():
        return int(source.holds())
    return sum(map(source.wants, source.listing().files))


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


def _readable(source: SourceConfig) -> bool:
    return any(isinstance(item, Record) for item in islice(source.records(), LOOK))


def _with(table: ColumnsConfig, field: str, columns: Mapping[str, str]) -> SourceConfig | None:
    """Return a table with `columns`, or the files that it lists; None where it lacks any."""
    rows = first_rows(table)
    if not all(any(value(row, c) is not ABSENT for row in rows) for c in columns.values()):
        return None
    return _held(table.replace(**columns), rows, field)


def _held(table: ColumnsConfig, rows: Sequence[Row], field: str) -> SourceConfig | None:
    """Return a table with the column `field`, or the files that it lists; None without either."""
    table = table.replace(field=field)
    if any(value(row, field) is not ABSENT for row in rows):
        listed = (listing(table, rows, field, kind) for kind in ("image", "audio"))
        return next((source for source in listed if source), table)
    return next((source for kind in ("image", "audio") if (source := medium(table, kind))), None)


def in_folders(source: FilesConfig) -> int:
    """Return how many of its files lie in a folder below its own."""
    root = source.root
    if not root.is_dir():
        return 0
    return sum("/" in name and source.wants(name) for name in source.listing().files)


def _lacking(path: str, tables: Sequence[ColumnsConfig], columns: Mapping[str, str]) -> str:
    """Return why tables have no such records; `columns` are named by the option for each."""
    for table in tables:
        rows = first_rows(table)
        for option, name in columns.items() if rows else ():
            if all(value(row, name) is ABSENT for row in rows):
                other = column_hint(name, columns_of(rows))
                return f"{path} has no column `{name}`{other}; name it with --{option}"
        for item in islice(table.records(), LOOK):
            if isinstance(item, Reject) and not item.empty:
                return f"{item.origin}: {item.reason}"
    root = TextFilesConfig(path=path).root
    if not root.exists():
        return f"{root} does not exist; give a folder or a file with --data"
    return ""


def _contents(path: str) -> str:
    """Return how many files there are at a path, by their endings."""
    files = TextFilesConfig(path=path)
    there = [files.root.name] if files.root.is_file() else files.listing().files
    return counted(endings(there)) or "nothing"
