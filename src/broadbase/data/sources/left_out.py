"""What a user should know of how folders are read: files left out, and folders as classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from broadbase.core.sources import SourceConfig
from broadbase.data.samples.packages import PackagedConfig
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.finding import counted, endings
from broadbase.data.sources.manifests import ListedConfig


def left_out(sources: Iterable[SourceConfig]) -> dict[str, int]:
    """Return how many files of the sources' folders none of them reads, by ending."""
    folders: dict[str, list[FilesConfig]] = {}
    for source in sources:
        for inner in _files(source):
            if inner.root.is_dir():
                folders.setdefault(str(inner.root), []).append(inner)
    counts = Counter[str]()
    for readers in folders.values():
        there = readers[0].listing()
        counts.update(there.left)
        counts.update(endings(n for n in there.files if not any(one.wants(n) for one in readers)))
    return dict(counts)


def notes(source: SourceConfig) -> list[str]:
    """Return lines to say before a source is used.

    What is left out, and where classes lie deeper.
    """
    left = counted(left_out([source]))
    lines = [f"left out, as no source reads them: {left}"] if left else []
    return lines + [line for inner in _files(source) for line in _classes(inner)]


def _classes(source: FilesConfig) -> list[str]:
    """Return whether the files of folders that are classes lie at several depths."""
    if getattr(source, "labels", "") != "folder" or not source.root.is_dir():
        return []
    depths = {name.count("/") for name in source.listing().files if source.wants(name)} - {0}
    if len(depths) < 2:
        return []
    return [
        f"the class of a file is the first folder below {source.root}; files lie in folders"
        f" {min(depths)} to {max(depths)} deep"
    ]


def _of_a_folder(source: SourceConfig) -> bool:
    return isinstance(source, FilesConfig) and source.root.is_dir()


def _files(source: SourceConfig) -> Iterator[FilesConfig]:
    """Yield the sources of files that a source reads, itself or through others."""
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
