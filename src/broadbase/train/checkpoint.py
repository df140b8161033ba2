"""Checkpoints: atomic, verified, without pickle; written beside the loop.

step-000500/model.safetensors   parameters
step-000500/optim.safetensors   the optimiser's state, flat
step-000500/meta.json           the step, and what a resume must find unchanged
step-000500/COMPLETE            format, and size and SHA-256 of every file; written last

Of several ranks each writes what it holds, shard-R-model-I-of-N.safetensors with the places of its
pieces in the header (the safetensors storage of PyTorch's distributed checkpoints). Any number of
ranks reads either.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_pieces
from torch.distributed.checkpoint.state_dict_saver import save as save_pieces

from broadbase.core.errors import DataError, ResourceError

FORMAT = 1
COMPLETE = "COMPLETE"
T = TypeVar("T")
Groups = Mapping[str, Mapping[str, Tensor]]  # group -> name -> tensor; a name is in one group only


@dataclass(frozen=True)
class Checkpoint:
    """A whole state on the disk, every byte verified."""

    path: Path
    step: int
    meta: Mapping[str, Any]

    @property
    def tensors(self) -> dict[str, TensorStorageMetadata]:
        """Size and type of every tensor, by name."""
        found = HuggingFaceStorageReader(str(self.path)).read_metadata().state_dict_metadata
        return {
            name: each for name, each in found.items() if isinstance(each, TensorStorageMetadata)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill these tensors, or this rank's pieces of them; DataError where one does not fit."""
        reader = HuggingFaceStorageReader(str(self.path))
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # that every rank reads by itself is meant
                load_pieces(dict(tensors), storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            reasons = "; ".join(str(reason) for reason, _ in error.failures.values())
            raise DataError(f"{self.path} is of another model: {reasons}") from None


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that cannot be used, and why."""

    path: Path
    reason: str


class Saver:
    """Saves beside the loop, one checkpoint at a time; leaving the context waits for the last.

    `peers` are the ranks that save together, by a group that nothing else talks in. ResourceError
    of a save comes with the next, or with `wait`.
    """

    def __init__(
        self,
        folder: Path,
        keep_last: int = 2,
        keep_every: int | None = None,
        peers: dist.ProcessGroup | None = None,
    ) -> None:
        self.folder, self.keep_last, self.keep_every = folder, keep_last, keep_every
        self.peers = peers
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    def save(self, step: int, tensors: Groups, meta: Mapping[str, Any]) -> None:
        """Copy the tensors and return; they may change at once, while the copy is written."""
        self.wait()
        contiguous = torch.contiguous_format  # safetensors takes nothing else
        copies = {
            group: {
                name: value.detach().to("cpu", copy=True, memory_format=contiguous)
                for name, value in each.items()
            }
            for group, each in tensors.items()
        }
        self._pending = self._thread.submit(self._write, step, copies, meta)

    def wait(self) -> None:
        """Until what was given is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, tensors: Groups, meta: Mapping[str, Any]) -> None:
        save(self.folder, step, tensors, meta, self.peers)
        if _first(self.peers):
            prune(self.folder, self.keep_last, self.keep_every)


def save(
    folder: Path,
    step: int,
    tensors: Groups,
    meta: Mapping[str, Any],
    peers: dist.ProcessGroup | None = None,
) -> Path:
    """Write a checkpoint that is there as a whole or not at all; all peers call it together.

    Tensors are contiguous and on the host; each peer writes its own pieces of them. ResourceError,
    on every peer, where the disk refuses one; what was saved before stays good.
    """
    path = folder / f"step-{step:06d}"
    draft = folder / f".draft-{path.name}"

    def begin() -> None:
        if _first(peers):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)

    def commit() -> None:
        if _first(peers):
            (draft / "meta.json").write_text(json.dumps({"step": step, **meta}, allow_nan=False))
            files = {name: seal for each in seals for name, seal in each.items()}
            files["meta.json"] = _seal(draft / "meta.json")
            complete = {"format": FORMAT, "step": step, "files": files}
            (draft / COMPLETE).write_text(json.dumps(complete))
            _sync(draft / COMPLETE)
            _sync(draft)
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
            _sync(folder)

    try:
        _together(peers, begin)
        seals = _together(peers, lambda: _write(draft, tensors, peers))
        _together(peers, commit)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        finished = [p.parent for p in folder.glob(f"step-*/{COMPLETE}")]
        good = max(finished, key=_step, default=None)
        kept = f"{good.name} is still good" if good else "there is no earlier one"
        raise ResourceError(
            f"{path} cannot be written: {error}; {kept}. Free space or permissions, then resume"
        ) from None
    return path


def _write(
    draft: Path, tensors: Groups, peers: dist.ProcessGroup | None
) -> dict[str, tuple[int, str]]:
    """Write this process's files; their seals by name."""
    if peers is None:
        for group, each in tensors.items():
            save_file(dict(each), draft / f"{group}.safetensors")
        mine = draft.glob("*.safetensors")
    else:
        numbers = {name: i for i, each in enumerate(tensors.values(), 1) for name in each}
        writer = HuggingFaceStorageWriter(str(draft), numbers, save_distributed=True)
        whole = {name: value for each in tensors.values() for name, value in each.items()}
        save_pieces(whole, storage_writer=writer, process_group=peers)
        mine = draft.glob(f"shard-{peers.rank() + 1:05d}-*")
    return {file.name: _seal(file) for file in sorted(mine)}


def _together(peers: dist.ProcessGroup | None, act: Callable[[], T]) -> list[T]:
    """What `act` gave on each peer; OSError on every peer where it failed on one."""
    mine: tuple[T | None, str]
    try:
        mine = (act(), "")
    except (OSError, SafetensorError, CheckpointException) as error:
        mine = (None, str(error))
    everyone: list[Any] = [mine]
    if peers is not None:
        everyone = [None] * peers.size()
        dist.all_gather_object(everyone, mine, group=peers)
    reasons = [reason for _, reason in everyone if reason]
    if reasons:
        raise OSError(reasons[0])
    return [result for result, _ in everyone]


def _first(peers: dist.ProcessGroup | None) -> bool:
    """Whether this peer does what is done once."""
    return peers is None or peers.rank() == 0


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
    meta = json.loads((path / "meta.json").read_text())
    return Checkpoint(path, int(meta.pop("step")), meta)


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
