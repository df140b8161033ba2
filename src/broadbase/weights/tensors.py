"""The tensors of a folder's safetensors files, looked at first, read when they are wanted.

Nothing is unpickled and no file outside the folder is opened. What is read lies in memory of its
own: a file that changes later changes no model, and one that is cut meanwhile is an error.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from broadbase.core.errors import DataError
from broadbase.core.files import read_json

INDEX, SINGLE, OURS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "broadbase.safetensors",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
KINDS = {  # safetensors' words
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
FLOATS = {word for word, kind in KINDS.items() if kind.is_floating_point}
HUGE = 2**20  # bytes from which memory is asked for in huge pages
THREADS = 8  # more read no faster
CONVERT = (
    "transformers: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER), on a machine where it"
    " may run code"
)


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, by its header."""

    file: Path
    shape: tuple[int, ...]
    word: str  # safetensors' for its type: "F32", "BF16", "I64"
    start: int  # of its bytes in the file

    @property
    def kind(self) -> torch.dtype:
        """Its type; DataError where we have none."""
        if self.word not in KINDS:
            known = ", ".join(KINDS)
            raise DataError(f"{self.file} holds {self.word} numbers; only {known} can be read")
        return KINDS[self.word]

    def look(self) -> Tensor:
        """Where it lies, mapped: for the moment, as a file that is cut takes its pages along."""
        size = prod(self.shape) * self.kind.itemsize
        page = self.start - self.start % mmap.ALLOCATIONGRANULARITY
        if not size:
            return torch.empty(self.shape, dtype=self.kind)
        with self.file.open("rb") as file:
            length = self.start - page + size
            mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=page)
        numbers = torch.frombuffer(
            mapped, dtype=self.kind, count=prod(self.shape), offset=self.start - page
        )
        return numbers.view(self.shape)

    def read(self, into: Tensor, first: int = 0) -> None:
        """The numbers from `first` on into a contiguous tensor."""
        if not into.numel():
            return
        room = into.view(-1).view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + first * self.kind.itemsize)
            while room and (count := file.readinto(room)):
                room = room[count:]
        if room:
            raise ValueError("it ends too soon")


@dataclass(frozen=True)
class Piece:
    """What is wanted of a stored tensor: numbers as they lie, from `first` on, or a view of all."""

    name: str
    shape: tuple[int, ...]
    first: int = 0
    view: Callable[[Tensor], Tensor] | None = None


class Tensors:
    """Every tensor of a folder by name; DataError names the file and what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: dict[str, Stored] = {}
        index = folder / INDEX
        named = _named(index) if index.exists() else {}
        files = sorted(set(named.values())) or [SINGLE]
        if not index.exists() and not (folder / SINGLE).exists():
            raise DataError(f"{folder} has no {SINGLE} ({_instead(folder)})")
        for file in [*files, *([OURS] if (folder / OURS).exists() else [])]:
            self._look(folder / file)
        for name, file in named.items():
            if name not in self.stored or self.stored[name].file.name != file:
                raise DataError(f"{index} says that {file} holds {name!r}, and it does not")

    def whole(self, name: str) -> Piece:
        """All of one tensor."""
        return Piece(name, self.stored[name].shape)

    def read(self, pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
        """Every piece in memory of its own.

        Views come first, of large tensors before small: with the file's pages that a view is copied
        from, memory peaks little above the pieces.
        """
        kinds = {key: self.stored[piece.name].kind for key, piece in pieces.items()}
        found = {key: empty(piece.shape, kinds[key]) for key, piece in pieces.items()}

        def fill(key: str) -> None:
            piece = pieces[key]
            stored = self.stored[piece.name]
            with _readable(stored.file):
                if piece.view is None:
                    stored.read(found[key], piece.first)
                else:
                    found[key].copy_(piece.view(stored.look()))

        def order(key: str) -> tuple[bool, int]:
            return pieces[key].view is None, -prod(self.stored[pieces[key].name].shape)

        with ThreadPoolExecutor(min(THREADS, torch.get_num_threads())) as pool:
            list(pool.map(fill, sorted(pieces, key=order)))
        return found

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers, whatever their type."""
        stored = self.stored[other]
        with _readable(stored.file):
            return same(self.stored[one].look(), stored.look())

    def _look(self, file: Path) -> None:
        if not file.exists():
            raise DataError(f"{file} is missing, and {INDEX} names it; copy it again")
        with _readable(file), safe_open(file, "pt"):  # which verifies the header
            header, start = _header(file)
        for name, its in header.items():
            if name in self.stored:
                raise DataError(f"{file} and {self.stored[name].file} both hold {name!r}")
            first, shape = start + its["data_offsets"][0], tuple(its["shape"])
            self.stored[name] = Stored(file, shape, its["dtype"], first)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """DataError, which names the file, where it cannot be read."""
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; copy it again") from None


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """What a file says of its tensors by name, and where their bytes begin."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def empty(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """Memory for a tensor, in huge pages where the system has them: getting it page by page takes
    longer than reading a file into it."""
    size = prod(shape) * kind.itemsize
    if size < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=kind)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=kind).view(shape)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their type."""
    return one.shape == other.shape and bool(torch.equal(one, other.to(one.dtype)))


def alike(one: Tensor, other: Tensor) -> bool:
    """The same, but for the precision of fractions."""
    if not (one.is_floating_point() and other.is_floating_point()) or one.shape != other.shape:
        return same(one, other)
    return torch.allclose(one.double(), other.double(), rtol=1e-2, atol=1e-6)


def _named(index: Path) -> dict[str, str]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{index} has no weight_map; copy it again")
    for name, file in named.items():
        plain = isinstance(file, str) and PurePosixPath(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise DataError(
                f"{index} names {file!r} for {name!r}, which is no safetensors file of this folder"
            )
    return named


def _instead(folder: Path) -> str:
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    if not pickles:
        return "no weights in it; is this a model folder?"
    return (
        f"{', '.join(pickles)} can run code when opened; convert the weights to safetensors, with"
        f" {CONVERT}"
    )
