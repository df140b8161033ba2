"""Writing safetensors files in the layout of the hub: one file, or several with an index.

A tensor is made when its file is written, so peak memory is one file more than the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from broadbase.weights.tensors import INDEX, OURS, SINGLE

LIMIT = 5 * 10**9  # bytes of a file, as in the hub's client


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is made when it is written."""

    size: int  # bytes
    make: Callable[[], Tensor]

    @staticmethod
    def of(tensor: Tensor) -> LazyTensor:
        """Wrap a tensor that exists."""
        return LazyTensor(tensor.nbytes, lambda: tensor)


def cut(tensors: Mapping[str, LazyTensor], limit: int) -> dict[str, str]:
    """Return the file of each tensor; tensors keep their order.

    A new file begins where one would exceed `limit` bytes. A larger tensor has a file to itself.
    """
    files: list[list[str]] = []
    open_file: list[str] = []
    held = 0
    for name, tensor in tensors.items():
        if tensor.size > limit:
            files.append([name])
            continue
        if held + tensor.size > limit:
            files.append(open_file)
            open_file, held = [], 0
        open_file.append(name)
        held += tensor.size
    files += [open_file] if open_file else []
    if len(files) == 1:
        return dict.fromkeys(tensors, SINGLE)
    count = len(files)
    names = (f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1))
    return {tensor: name for name, file in zip(names, files, strict=True) for tensor in file}


def write(tensors: Mapping[str, LazyTensor], files: Mapping[str, str], folder: Path) -> None:
    """Write every tensor into its file, one file after another, and an index of several files."""
    for file in sorted(set(files.values())):
        held = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        write_file(_made(held), folder / file, {"format": "pt"})
    named = {name: file for name, file in sorted(files.items()) if file != OURS}
    if set(named.values()) != {SINGLE}:
        total = sum(tensors[name].size for name in named)
        index = {"metadata": {"total_size": total}, "weight_map": named}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def write_file(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write one file of tensors; OSError if the disk refuses."""
    try:
        save_file(tensors, file, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def _made(tensors: Mapping[str, LazyTensor]) -> dict[str, Tensor]:
    """Return tensors on the host that share no memory, as a file requires."""
    made: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, lazy in tensors.items():
        tensor = lazy.make().detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        made[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return made
