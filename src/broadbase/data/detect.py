"""What a folder holds: one source for every kind of file in it that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from broadbase.core.contracts import Record, SourceConfig
from broadbase.core.errors import ConfigError
from broadbase.core.trees import read_tree
from broadbase.data.cells import H5adConfig
from broadbase.data.samples import SAMPLES, sample
from broadbase.data.sound import FOLDER, AudioFilesConfig
from broadbase.data.sources import (
    FilesConfig,
    ImageFilesConfig,
    JsonLinesConfig,
    TextFilesConfig,
)
from broadbase.data.tables import ArrowConfig, CsvConfig, ParquetConfig
from broadbase.data.video import VideoFilesConfig

FILES = {"image": ImageFilesConfig, "text": TextFilesConfig, "audio": AudioFilesConfig}
TABLES = (JsonLinesConfig, CsvConfig, ParquetConfig, ArrowConfig)


def detect(path: str, plain: FilesConfig) -> Sequence[SourceConfig]:
    """The sources of a folder, a file, a "sample:NAME" or a "source:FILE.yaml".

    `plain` reads a modality's own files; the others are tables of records. Beside plain files a
    table counts only where its first row has the field it would be read for. Where nothing matches
    the answer is `plain`, whose error says what there is instead.
    """
    if found := named(path):
        return [found]
    tables = [t for t in (table(path=path) for table in TABLES) if _holds(t)]
    if not _holds(plain):
        return tables or [plain]
    return [plain, *(table for table in tables if _readable(table))]


def pairs(path: str, kinds: Sequence[str] = ("image", "text")) -> dict[str, SourceConfig]:
    """Records of several kinds, by modality: a sample set that has them, columns of their names in
    a table, or files of one name (cat.png, cat.txt). ConfigError where a sample set has not all."""
    if path.startswith("sample:"):
        name = path.removeprefix("sample:")
        found = sample(name).kinds
        if not found.keys() >= set(kinds):
            known = ", ".join(n for n, each in SAMPLES.items() if each.kinds.keys() >= set(kinds))
            what = " and ".join(kinds)
            raise ConfigError(f"sample set {name!r} has no pairs of {what}; these have: {known}")
        return {kind: found[kind] for kind in kinds}
    for table in (ParquetConfig, ArrowConfig):
        if _holds(table(path=path)):
            return {kind: table(path=path, field=kind) for kind in kinds}
    return {kind: FILES[kind](path=path) for kind in kinds}


def labelled(path: str, field: str, label: str) -> SourceConfig:
    """Labelled records: a sample or named source, table, cells, pictures, videos, sounds."""
    if source := named(path):
        return source
    cells = H5adConfig(path=path, label=label)
    pictures = ImageFilesConfig(path=path, labels="folder")
    videos = VideoFilesConfig(path=path, labels="folder")
    tables = [table(path=path, field=field, label=label) for table in TABLES]
    sounds = AudioFilesConfig(path=path, label=FOLDER)
    plain = (*tables, cells, pictures, videos, sounds)
    found: list[FilesConfig] = [source for source in plain if _holds(source)]
    return found[0] if found else tables[0]


def media(path: str) -> SourceConfig:
    """Pictures, sounds or clips: what a sample or named source is of, or the files of a folder."""
    if found := named(path):
        return found
    kinds = (ImageFilesConfig, AudioFilesConfig, VideoFilesConfig)
    plain = [kind(path=path) for kind in kinds]
    return next((source for source in plain if _holds(source)), plain[0])


def named(path: str) -> SourceConfig | None:
    """The source of "sample:NAME" or of "source:FILE.yaml", which holds the settings of any."""
    kind, _, rest = path.partition(":")
    if kind == "sample":
        return sample(rest).source
    if kind != "source":
        return None
    return SourceConfig.from_tree(read_tree(Path(rest), "the settings of a source"))


def _holds(source: FilesConfig) -> bool:
    root = source.root
    if root.is_file():
        return any(fnmatch(root.name, one.rpartition("/")[2]) for one in source.pattern.split())
    return any(True for one in source.pattern.split() for _ in root.glob(one))


def _readable(source: FilesConfig) -> bool:
    return isinstance(next(source.records(), None), Record)
