"""Checkpoints: atomic, verified, without pickle.

step-000500/model.safetensors   parameters
step-000500/optim.safetensors   the optimiser's state, flat
step-000500/meta.json           the step, and what a resume must find unchanged
step-000500/COMPLETE            format, and size and SHA-256 of every file; written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from broadbase.core.errors import DataError, ResourceError

FORMAT = 1
COMPLETE = "COMPLETE"


@dataclass(frozen=True)
class Checkpoint:
    """A whole state, read and verified."""

    path: Path
    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]  # file -> name -> tensor
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that cannot be used, and why."""

    path: Path
    reason: str


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint that is there as a whole or not at all.

    ResourceError where the disk refuses; what was saved before stays good.
    """
    path = folder / f"step-{step:06d}"
    draft = folder / f".draft-{path.name}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, group in tensors.items():
            # safetensors refuses tensors that share memory: give each its own
            whole = {key: value.detach().contiguous().clone() for key, value in group.items()}
            save_file(whole, draft / f"{name}.safetensors")
        (draft / "meta.json").write_text(json.dumps({"step": step, **meta}, allow_nan=False))
        files = {file.name: _seal(file) for file in sorted(draft.iterdir())}
        (draft / COMPLETE).write_text(json.dumps({"format": FORMAT, "step": step, "files": files}))
        _sync(draft / COMPLETE)
        _sync(draft)
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        finished = [p.parent for p in folder.glob(f"step-*/{COMPLETE}")]
        good = max(finished, key=_step, default=None)
        kept = f"{good.name} is still good" if good else "there is no earlier one"
        raise ResourceError(
            f"{path} cannot be written: {error}; {kept}. Free space or permissions, then resume"
        ) from None
    return path


def read(path: Path) -> Checkpoint:
    """The checkpoint at `path`, every byte verified; DataError says what is wrong with it."""
    if not (path / COMPLETE).exists():
        raise DataError(f"{path} was never finished: it has no {COMPLETE}")
    try:
        seal = json.loads((path / COMPLETE).read_text())
        form, files = seal["format"], seal["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / COMPLETE} is damaged: {error}") from None
    if form > FORMAT:
        raise DataError(
            f"{path} has format {form}, this program reads up to {FORMAT}; upgrade Broadbase"
        )
    for name, (size, digest) in files.items():
        file = path / name
        if not file.exists():
            raise DataError(f"{file} is missing")
        if file.stat().st_size != size:
            raise DataError(f"{file} has {file.stat().st_size} bytes instead of {size}")
        if _digest(file) != digest:
            raise DataError(f"{file} was altered: its SHA-256 differs from the one written")
    tensors = {Path(n).stem: load_file(path / n) for n in files if n.endswith(".safetensors")}
    meta = json.loads((path / "meta.json").read_text())
    return Checkpoint(path, int(meta.pop("step")), tensors, meta)


def newest(folder: Path) -> tuple[Checkpoint | None, tuple[Skipped, ...]]:
    """The newest good checkpoint of a run, and each newer one that is not, with its reason."""
    skipped = [Skipped(p, "never finished") for p in sorted(folder.glob(".draft-*"))]
    for path in sorted(folder.glob("step-*"), key=_step, reverse=True):
        try:
            return read(path), tuple(skipped)
        except (DataError, OSError) as error:
            skipped.append(Skipped(path, str(error)))
    return None, tuple(skipped)


def prune(folder: Path, keep_last: int, keep_every: int | None) -> None:
    """Keep the last `keep_last`, and those whose step is a multiple of `keep_every`.

    COMPLETE goes first: a removal cut short leaves something that is skipped.
    """
    finished = sorted((p.parent for p in folder.glob(f"step-*/{COMPLETE}")), key=_step)
    for path in finished[: -max(1, keep_last)]:
        if keep_every is None or _step(path) % keep_every:
            (path / COMPLETE).unlink()
            shutil.rmtree(path, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _seal(file: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file that is safely on the disk."""
    _sync(file)
    return file.stat().st_size, _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
