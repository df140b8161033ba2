"""The tensors of a folder's safetensors files; headers are read first, tensors on demand.

Nothing is unpickled and no file outside the folder is opened. Tensors are copied into memory: a
file that changes later changes no model, and a file that is cut meanwhile is an error.
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
DTYPES = {  # by the names of safetensors
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
FLOATS = {name for name, dtype in DTYPES.items() if dtype.is_floating_point}
HUGE = 2**20  # bytes from which memory is allocated in huge pages
THREADS = 8  # more do not read faster
CONVERT = (
    "transformers: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER), on a machine where it"
    " may run code"
)


@dataclass(frozen=True)
class Stored:
    """The entry of one tensor in the header of a file."""

    file: Path
    shape: tuple[int, ...]
    dtype_name: str  # in safetensors: "F32", "BF16", "I64"
    start: int  # the first byte of its numbers in the file

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of its numbers; DataError if it is not supported."""
        if self.dtype_name not in DTYPES:
            raise DataError(
                f"{self.file} holds {self.dtype_name} numbers; convert them to one of"
                f" {', '.join(DTYPES)}"
            )
        return DTYPES[self.dtype_name]

    @property
    def size(self) -> int:
        """Return the bytes of its numbers."""
        return prod(self.shape) * self.dtype.itemsize

    def mapped(self) -> Tensor:
        """Return the tensor mapped from the file.

        Copy it soon: if the file is cut, its pages are lost.
        """
        size = self.size
        page = self.start - self.start % mmap.ALLOCATIONGRANULARITY
        if not size:
            return torch.empty(self.shape, dtype=self.dtype)
        with self.file.open("rb") as file:
            length = self.start - page + size
            memory = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=page)
        numbers = torch.frombuffer(
            memory, dtype=self.dtype, count=prod(self.shape), offset=self.start - page
        )
        return numbers.view(self.shape)

    def read(self, into: Tensor, first: int = 0) -> None:
        """Read numbers into a contiguous tensor, beginning with number `first`."""
        if not into.numel():
            return
        buffer = into.view(-1).view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + first * self.dtype.itemsize)
            while buffer and (count := file.readinto(buffer)):
                buffer = buffer[count:]
        if buffer:
            raise ValueError("it ends too soon")


@dataclass(frozen=True)
class Piece:
    """A request for a stored tensor: its numbers in order from `first` on, or a view of it."""

    name: str
    shape: tuple[int, ...]
    first: int = 0
    view: Callable[[Tensor], Tensor] | None = None


class Tensors:
    """Every tensor of a folder by name; a DataError names the file and its fault."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of all files."""
        self.folder = folder
        self.stored: dict[str, Stored] = {}
        index = folder / INDEX
        named = _named(index) if index.exists() else {}
        files = sorted(set(named.values())) or [SINGLE]
        if not index.exists() and not (folder / SINGLE).exists():
            raise DataError(f"{folder} has no {SINGLE} ({_instead(folder)})")
        for file in [*files, *([OURS] if (folder / OURS).exists() else [])]:
            self._read_header(folder / file)
        for name, file in named.items():
            if name not in self.stored or self.stored[name].file.name != file:
                raise DataError(
                    f"{index} says that {file} holds {name!r}, and it does not; copy it again"
                )

    def file_of(self, name: str) -> str:
        """Return the file that holds a tensor when the model is saved."""
        return self.stored[name].file.name

    def piece(self, name: str) -> Piece:
        """Return the piece that is a complete tensor."""
        return Piece(name, self.stored[name].shape)

    def read(self, pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
        """Return a copy of every piece.

        Views of large tensors come first. A view is copied from the pages of a file, so in this
        order peak memory is little more than the pieces.
        """
        dtypes = {key: self.stored[piece.name].dtype for key, piece in pieces.items()}
        result = {key: empty(piece.shape, dtypes[key]) for key, piece in pieces.items()}

        def fill(key: str) -> None:
            piece = pieces[key]
            stored = self.stored[piece.name]
            with readable(stored.file):
                if piece.view is None:
                    stored.read(result[key], piece.first)
                else:
                    result[key].copy_(piece.view(stored.mapped()))

        def order(key: str) -> tuple[bool, int]:
            return pieces[key].view is None, -prod(self.stored[pieces[key].name].shape)

        with ThreadPoolExecutor(min(THREADS, torch.get_num_threads())) as pool:
            list(pool.map(fill, sorted(pieces, key=order)))
        return result

    def same(self, one: str, other: str) -> bool:
        """Return whether two stored tensors have equal numbers, whatever their types."""
        stored = self.stored[other]
        with readable(stored.file):
            return same(self.stored[one].mapped(), stored.mapped())

    def _read_header(self, file: Path) -> None:
        if not file.exists():
            raise DataError(f"{file} is missing, and {INDEX} names it; copy it again")
        with readable(file), safe_open(file, "pt"):  # this verifies the header
            header, start = _header(file)
        for name, entry in header.items():
            if name in self.stored:
                raise DataError(
                    f"{file} and {self.stored[name].file} both hold {name!r}; remove one of them"
                )
            first, shape = start + entry["data_offsets"][0], tuple(entry["shape"])
            self.stored[name] = Stored(file, shape, entry["dtype"], first)


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn errors of reading into a DataError that names the file."""
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; copy it again") from None


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the entries of a file's header by name, and the offset of the first tensor."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor, in huge pages if the system has them.

    Allocating memory in small pages takes longer than reading a file into it.
    """
    size = prod(shape) * dtype.itemsize
    if size < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have equal numbers, whatever their types."""
    return one.shape == other.shape and bool(torch.equal(one, other.to(one.dtype)))


def alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal up to the precision of bf16."""
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
                f"{index} names {file!r} for {name!r}, which is no safetensors file of this folder;"
                " copy it again"
            )
    return named


def _instead(folder: Path) -> str:
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    if not pickles:
        return "it holds no weights; give a model folder"
    return (
        f"{', '.join(pickles)} can run code when opened; convert the weights to safetensors, with"
        f" {CONVERT}"
    )
