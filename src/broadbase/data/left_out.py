"""What is left out: the files of the data's folders that no source reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from broadbase.core.contracts import SourceConfig
from broadbase.data.finding import endings
from broadbase.data.listed import ListedConfig
from broadbase.data.packages import PackagedConfig
from broadbase.data.sources import FilesConfig


def left_out(sources: Iterable[SourceConfig]) -> dict[str, int]:
    """How many files of the sources' folders none of them reads, by ending."""
    folders: dict[str, list[FilesConfig]] = {}
    for source in sources:
        for inner in _files(source):
            if inner.root.is_dir():
                folders.setdefault(str(inner.root), []).append(inner)
    found = Counter[str]()
    for readers in folders.values():
        there = readers[0].listing()
        found.update(there.left)
        found.update(endings(n for n in there.files if not any(one.wants(n) for one in readers)))
    return dict(found)


def _of_a_folder(source: SourceConfig) -> bool:
    return isinstance(source, FilesConfig) and source.root.is_dir()


def _files(source: SourceConfig) -> Iterator[FilesConfig]:
    """The sources of files that a source reads, itself or through others."""
    if isinstance(source, FilesConfig):
        yield source
    if isinstance(source, PackagedConfig):  # what it leaves out of its package is no loss
        return
    if isinstance(source, ListedConfig) and not _of_a_folder(source.table):
        return
    for name in type(source).model_fields:
        inner = getattr(source, name)
        if isinstance(inner, SourceConfig):
            yield from _files(inner)
