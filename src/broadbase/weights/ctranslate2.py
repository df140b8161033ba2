"""CTranslate2 containers (model.bin), versions 4 to 6: the header is read, tensors on demand.

A container is, little-endian: version u32, spec string, revision u32, number of variables u32; of
each variable name string, rank u8, sizes u32, type u8, bytes u32, numbers; then number of aliases
u32, and of each alias its name and that of a variable. A string has its length, with a zero at its
end, as u16 before it (OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py). Nothing is
unpickled, and no length is believed that goes beyond the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from broadbase.core.errors import DataError
from broadbase.weights.tensors import DTYPES, INDEX, SINGLE, Piece, Stored, Tensors, readable

FILE = "model.bin"
VERSIONS = range(4, 7)
TYPES = ("F32", "I8", "I16", "I32", "F16", "BF16")  # by their number in a container
RANKS, MOST = 8, 100_000  # of a variable, and variables of a container


@dataclass(frozen=True)
class Container:
    """The header of a container."""

    file: Path
    spec: str  # the kind of model, as "WhisperSpec"
    settings: Mapping[str, float]  # variables that are a single number
    stored: Mapping[str, Stored]  # the others

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Return the sizes of a variable; DataError if there is none of that rank."""
        stored = self.stored.get(name)
        if stored is None or len(stored.shape) != rank:
            raise DataError(f"{self.file} has no {name!r} with {rank} axes; copy it again")
        return stored.shape


class ContainerTensors(Tensors):
    """Variables of a container under other names, read as 32-bit floats."""

    def __init__(self, folder: Path, stored: Mapping[str, Stored]) -> None:
        """Take the entries of a header."""
        self.folder, self.stored = folder, dict(stored)

    def read(self, pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
        """Return a copy of every piece."""
        return {name: tensor.float() for name, tensor in super().read(pieces).items()}

    def file_of(self, name: str) -> str:
        """Return the file that holds a tensor when the model is saved."""
        return SINGLE


def is_container(folder: Path) -> bool:
    """Return whether a folder's weights are a container; a pickle begins with another number."""
    file = folder / FILE
    if not file.is_file() or (folder / SINGLE).exists() or (folder / INDEX).exists():
        return False
    with readable(file), file.open("rb") as opened:
        return 0 < int.from_bytes(opened.read(4), "little") < 256


def read_container(file: Path) -> Container:
    """Return the header of a container; DataError names the file and what is wrong with it."""
    with readable(file), file.open("rb") as opened:
        cursor = _Cursor(opened)
        if (version := cursor.number(4)) not in VERSIONS:
            raise ValueError(f"its version is {version}, not {VERSIONS[0]} to {VERSIONS[-1]}")
        spec = cursor.text()
        cursor.number(4)  # the revision; other layouts have other names
        settings: dict[str, float] = {}
        stored: dict[str, Stored] = {}
        for _ in range(cursor.count()):
            name, entry = cursor.text(), cursor.variable(file)
            if name in settings or name in stored:
                raise ValueError(f"it holds {name!r} twice")
            if entry.shape:
                stored[name] = entry
            else:
                settings[name] = entry.mapped().item()
        repeated = 0
        for _ in range(cursor.count()):
            alias, name = cursor.text(), cursor.text()
            if alias in stored or alias in settings:
                raise ValueError(f"it holds {alias!r} twice")
            if name in stored:
                stored[alias] = stored[name]
                repeated += stored[name].size
            elif name in settings:
                settings[alias] = settings[name]
            else:
                raise ValueError(f"{alias!r} stands for {name!r}, which it lacks")
        if repeated > cursor.end:
            raise ValueError("its aliases repeat more than it holds")
    return Container(file, spec, settings, stored)


class _Cursor:
    """A position in a file, which no length moves beyond its end; ValueError instead."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.end = os.fstat(file.fileno()).st_size

    def skip(self, count: int) -> int:
        """Move on by so many bytes, and return the position before."""
        start = self.file.tell()
        if start + count > self.end:
            raise ValueError("it ends too soon")
        self.file.seek(start + count)
        return start

    def number(self, size: int) -> int:
        if len(read := self.file.read(size)) < size:
            raise ValueError("it ends too soon")
        return int.from_bytes(read, "little")

    def count(self) -> int:
        if (count := self.number(4)) > MOST:
            raise ValueError(f"it has {count} entries, and more than {MOST} are not read")
        return count

    def text(self) -> str:
        length = self.number(2)
        read = self.file.read(length)
        if len(read) < length or read[-1:] != b"\0":
            raise ValueError("a name in it has no end")
        return read[:-1].decode()

    def variable(self, file: Path) -> Stored:
        rank = self.number(1)
        if rank > RANKS:
            raise ValueError(f"a variable has {rank} axes")
        shape = tuple(self.number(4) for _ in range(rank))
        kind, size = self.number(1), self.number(4)
        if kind >= len(TYPES):
            raise ValueError(f"a variable has numbers of type {kind}, which is none")
        if prod(shape) * DTYPES[TYPES[kind]].itemsize != size:
            raise ValueError(f"a variable of sizes {list(shape)} has {size} bytes")
        return Stored(file, shape, TYPES[kind], self.skip(size))
