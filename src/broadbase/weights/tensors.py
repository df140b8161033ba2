"""The tensors of a folder's safetensors files, looked at first and read one at a time.

Nothing is unpickled, no file outside the folder is opened, and what is read is copied at once, so
that a file's pages count for as long as one tensor is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from broadbase.core.errors import DataError

INDEX, SINGLE, OURS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "broadbase.safetensors",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FLOATS = {"F64", "F32", "F16", "BF16"}
CONVERT = (
    "transformers: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER), on a machine where it"
    " may run code"
)


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, by its header."""

    file: Path
    shape: tuple[int, ...]
    kind: str  # safetensors' word: "F32", "BF16", "I64"


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

    def largest_first(self, names: Iterable[str]) -> list[str]:
        """By number of elements: read in this order, memory peaks little above what is read."""
        return sorted(names, key=lambda name: -prod(self.stored[name].shape))

    def read(self, name: str) -> Tensor:
        """A copy of one tensor."""
        return self.parts(name, [lambda tensor: tensor])[0]

    def parts(self, name: str, views: Iterable[Callable[[Tensor], Tensor]]) -> list[Tensor]:
        """Copies of some `views` of one tensor, each in memory of its own."""
        file = self.stored[name].file
        try:
            with safe_open(file, "pt") as opened:
                whole = opened.get_tensor(name)
                parts = [view(whole) for view in views]
                return [part.clone(memory_format=torch.contiguous_format) for part in parts]
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{file} cannot be read: {error}; copy it again") from None

    def _look(self, file: Path) -> None:
        if not file.exists():
            raise DataError(f"{file} is missing, and {INDEX} names it; copy it again")
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(name)
                    found = Stored(file, tuple(part.get_shape()), str(part.get_dtype()))
                    if name in self.stored:
                        raise DataError(f"{file} and {self.stored[name].file} both hold {name!r}")
                    self.stored[name] = found
        except (OSError, SafetensorError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file} cannot be read: {error}; copy it again") from None


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; is this a model folder?"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; copy it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; copy it again")
    return content


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their type."""
    return one.shape == other.shape and bool(torch.equal(one, other.to(one.dtype)))


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
