"""Pictures and sounds that a table lists by their paths: `file_name,text`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import SerializeAsAny
from upath import UPath

from broadbase.core.sources import Pair, Record, Reject, SourceChunk, SourceConfig, parts
from broadbase.data.sources.files import FilesConfig, digest


class ListedConfig(SourceConfig):
    """The files that the texts of `table` name, relative to the table's folder.

    What the table says of a row (label, key, group) holds for its file; `files` decodes it.
    """

    name: Literal["listed"] = "listed"
    table: SerializeAsAny[SourceConfig]
    """The table whose texts are paths of files."""
    files: SerializeAsAny[SourceConfig]
    """The source that decodes a file."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.table.licence

    def parts(self) -> Sequence[SourceChunk]:
        """Return the pieces that are read apart."""
        return self.table.parts()

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the records and rejects of one piece."""
        for row in self.table.read(part):
            if isinstance(row, Reject):
                yield row
                continue
            items = [item for name in parts(row.raw) for item in self._files(part, row, name)]
            if isinstance(row.raw, Pair):
                items = _paired(items)
            for item in items:
                if isinstance(item, Reject):
                    yield item
                else:
                    yield replace(item, label=row.label, key=row.key, group=row.group)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each table with all files that it names."""
        hashes = {
            name: hashlib.sha256(own.encode()) for name, own in self.table.fingerprint().items()
        }
        for part in self.parts():
            for row in self.table.read(part):
                for name in parts(row.raw) if isinstance(row, Record) else ():
                    path = self._path(part, name)
                    content = path if isinstance(path, str) else digest(path)
                    hashes[part.name].update(content.encode(errors="surrogateescape"))
        return {name: sums.hexdigest() for name, sums in hashes.items()}

    def _files(self, part: SourceChunk, row: Record, name: str) -> Iterator[Record | Reject]:
        """Yield what the file `name` of a row holds."""
        path = self._path(part, name)
        if isinstance(path, str):
            yield Reject(row.origin, path)
            return
        for item in self.files.replace(path=str(path)).records():
            if isinstance(item, Reject):
                yield replace(item, origin=f"{row.origin} ({item.origin})")
            else:
                yield item

    def _path(self, part: SourceChunk, name: str) -> UPath | str:
        """Return the file that a row names, or why there is none."""
        assert isinstance(self.table, FilesConfig)
        if "://" in name:
            return f"{name!r} is a URL; download the file, and name it by its path"
        root = self.table.root
        above = root.parent if root.is_file() else root
        plain = name.strip().replace("\\", "/")
        for folder in (above if root.is_file() else (above / part.name).parent, above, UPath()):
            if (path := folder / plain).is_file():
                return path
        return f"there is no file {name!r}, seen from the folder of the table, or from here"


def _paired(items: Sequence[Record | Reject]) -> list[Record | Reject]:
    """Return the records of two files as one pair; the first reject where there is one."""
    if rejected := [item for item in items if isinstance(item, Reject)]:
        return [rejected[0]]
    first, second = (item for item in items if isinstance(item, Record))
    return [replace(first, raw=Pair(first.raw, second.raw))]
