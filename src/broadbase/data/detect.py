"""What a folder holds: one source for every kind of file in it that can be read."""

from __future__ import annotations

from broadbase.core.contracts import Record
from broadbase.data.sources import FilesConfig, JsonLinesConfig
from broadbase.data.tables import ArrowConfig, CsvConfig, ParquetConfig

TABLES = (JsonLinesConfig, CsvConfig, ParquetConfig, ArrowConfig)


def detect(path: str, plain: FilesConfig) -> list[FilesConfig]:
    """The sources of a folder or file: `plain` for a modality's own files, then tables of records.

    Beside plain files a table counts only where its first row has the field it would be read for.
    Where nothing matches the answer is `plain`, whose error says what there is instead.
    """
    tables = [t for t in (table(path=path) for table in TABLES) if _holds(t)]
    if not _holds(plain):
        return tables or [plain]  # type: ignore[return-value]
    return [plain, *(table for table in tables if _readable(table))]


def _holds(source: FilesConfig) -> bool:
    root = source.root
    if root.is_file():
        return any(root.match(one) for one in source.pattern.split())
    return any(True for one in source.pattern.split() for _ in root.glob(one))


def _readable(source: FilesConfig) -> bool:
    return isinstance(next(source.records(), None), Record)
