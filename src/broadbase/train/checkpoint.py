"""Checkpoints: atomic, verified, without pickle.

step-000500/model.safetensors   parameters
step-000500/optim.safetensors   the optimiser's state, flat
step-000500/meta.json           the step, and what a resume must find unchanged
step-000500/COMPLETE            format, and size and SHA-256 of every file; written last

Of several ranks each writes what it holds, shard-R-model-I-of-N.safetensors with the origins of its
pieces in the header (the safetensors storage of PyTorch's distributed checkpoints). Any number of
ranks reads either.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pydantic import BaseModel, ValidationError
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

from broadbase.core.errors import BroadbaseError, DataError, ResourceError
from broadbase.core.files import digest, discard, draft_folder, sweep, sync, write_json

FORMAT = 1
COMPLETE = "COMPLETE"
NAME = re.compile(r"step-\d{6,}")
FILES = re.compile(rf"{COMPLETE}|meta\.json|[\w-]+\.safetensors")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Groups = Mapping[str, Mapping[str, Tensor]]  # group -> name -> tensor; a name is in one group only


class Seal(BaseModel, strict=True):
    """What COMPLETE holds."""

    format: int
    step: int
    files: dict[str, tuple[int, str]]  # name: bytes, SHA-256


class Meta(BaseModel, strict=True):
    """What meta.json holds."""

    step: int
    identity: dict[str, Any] = {}  # what a resume must find unchanged


@dataclass(frozen=True)
class Checkpoint:
    """A complete state on the disk, every byte verified."""

    path: Path
    step: int
    identity: Mapping[str, Any]

    @property
    def tensors(self) -> dict[str, TensorStorageMetadata]:
        """Return size and type of every tensor, by name."""
        stored = HuggingFaceStorageReader(str(self.path)).read_metadata().state_dict_metadata
        return {
            name: each for name, each in stored.items() if isinstance(each, TensorStorageMetadata)
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


def save(
    folder: Path,
    step: int,
    tensors: Groups,
    identity: Mapping[str, Any],
    peers: dist.ProcessGroup | None = None,
) -> Path:
    """Write a checkpoint that is there completely or not at all; all peers call it together.

    Tensors are contiguous and on the host; each peer writes its own pieces of them. ResourceError,
    on every peer, where the disk refuses one; what was saved before stays good.
    """
    path = folder / f"step-{step:06d}"
    try:
        with ExitStack() as stack:

            def begin() -> Path | None:
                return stack.enter_context(draft_folder(path, ours)) if _first(peers) else None

            draft = _together(peers, path, begin)[0]
            assert draft is not None
            seals = _together(peers, path, lambda: _write(draft, tensors, peers))

            def commit() -> None:
                if _first(peers):
                    write_json(draft / "meta.json", {"step": step, "identity": dict(identity)})
                    files = {name: seal for each in seals for name, seal in each.items()}
                    files["meta.json"] = _seal(draft / "meta.json")
                    seal = {"format": FORMAT, "step": step, "files": files}
                    write_json(draft / COMPLETE, seal)
                    stack.close()

            _together(peers, path, commit)
    except ResourceError as error:
        good = max(_finished(folder), key=_step, default=None)
        kept = f"{good.name} is still good, `resume` goes on from it" if good else "none is older"
        raise ResourceError(f"{error}; {kept}") from None
    return path


def _write(
    draft: Path, tensors: Groups, peers: dist.ProcessGroup | None
) -> dict[str, tuple[int, str]]:
    """Write this process's files; return their seals by name."""
    if peers is None:
        for group, each in tensors.items():
            save_file(dict(each), draft / f"{group}.safetensors")
        files = draft.glob("*.safetensors")
    else:
        numbers = {name: i for i, each in enumerate(tensors.values(), 1) for name in each}
        writer = HuggingFaceStorageWriter(str(draft), numbers, save_distributed=True)
        together = {name: value for each in tensors.values() for name, value in each.items()}
        save_pieces(together, storage_writer=writer, process_group=peers)
        files = draft.glob(f"shard-{peers.rank() + 1:05d}-*")
    return {file.name: _seal(file) for file in sorted(files)}


def _together(peers: dist.ProcessGroup | None, path: Path, act: Callable[[], T]) -> list[T]:
    """Return what `act` gave on each peer; ResourceError on every peer where it failed on one."""
    outcome: tuple[T | None, str]
    try:
        outcome = (act(), "")
    except BroadbaseError as error:
        outcome = (None, str(error))
    except (OSError, SafetensorError, CheckpointException) as error:
        outcome = (None, f"{path} cannot be written: {error}")
    outcomes: list[Any] = [outcome]
    if peers is not None:
        outcomes = [None] * peers.size()
        dist.all_gather_object(outcomes, outcome, group=peers)
    reasons = [reason for _, reason in outcomes if reason]
    if reasons:
        raise ResourceError(reasons[0])
    return [result for result, _ in outcomes]


def _first(peers: dist.ProcessGroup | None) -> bool:
    """Return whether this peer does what is done once."""
    return peers is None or peers.rank() == 0


def read(path: Path) -> Checkpoint:
    """Open the checkpoint at `path`, every byte verified; DataError says what is wrong with it."""
    if not (path / COMPLETE).exists():
        raise DataError(f"{path} was never finished: it has no {COMPLETE}")
    seal = _parsed(Seal, path / COMPLETE)
    if seal.format > FORMAT:
        raise DataError(
            f"{path} has format {seal.format}, this program reads up to {FORMAT}; upgrade Broadbase"
        )
    for name, (size, sha) in seal.files.items():
        file = path / name
        if not file.is_file():
            raise DataError(f"{file} is missing")
        if file.stat().st_size != size:
            raise DataError(f"{file} has {file.stat().st_size} bytes instead of {size}")
        if digest(file) != sha:
            raise DataError(f"{file} was altered: its SHA-256 differs from the one written")
    held = {"meta.json", *(file.name for file in path.glob("*.safetensors"))}
    if len(held) < 2 or not held <= seal.files.keys():
        raise DataError(f"{path / COMPLETE} is damaged: it does not list {', '.join(sorted(held))}")
    meta = _parsed(Meta, path / "meta.json")
    if meta.step != _step(path):
        raise DataError(f"{path} is a copy of step {meta.step}: its meta.json says so")
    return Checkpoint(path, meta.step, meta.identity)


def newest(folder: Path) -> tuple[Checkpoint | None, tuple[Skipped, ...]]:
    """Find the newest good checkpoint of a run, and each newer one that is not, with its reason."""
    skipped: list[Skipped] = []
    for path in sorted(_steps(folder), key=_step, reverse=True):
        try:
            return read(path), tuple(skipped)
        except (DataError, OSError) as error:
            skipped.append(Skipped(path, str(error)))
    return None, tuple(skipped)


def prune(folder: Path, step: int, keep_last: int, keep_every: int | None) -> None:
    """Keep the last `keep_last` checkpoints up to `step`, and each multiple of `keep_every`.

    What a killed process left goes too: drafts, and what has lost its COMPLETE.
    """
    sweep(folder)
    past = [path for path in _steps(folder) if _step(path) <= step and ours(path)]
    finished = sorted((path for path in past if (path / COMPLETE).exists()), key=_step)
    kept = {path for path in finished if keep_every and _step(path) % keep_every == 0}
    for path in {*past} - kept - {*finished[-max(1, keep_last) :]}:
        discard(path)


def ours(path: Path) -> bool:
    """Return whether a folder holds nothing but files of a checkpoint."""
    return all(item.is_file() and FILES.fullmatch(item.name) for item in path.iterdir())


def _parsed(kind: type[M], path: Path) -> M:
    """Parse a file of JSON as the type it should be; DataError where it is not."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is damaged: {where} {first['msg']}") from None


def _steps(folder: Path) -> list[Path]:
    """List the folders that are named like checkpoints; a copy of another name is none."""
    return [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()]


def _finished(folder: Path) -> list[Path]:
    return [path for path in _steps(folder) if (path / COMPLETE).exists()]


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _seal(file: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file that is safely on the disk."""
    sync(file)
    return file.stat().st_size, digest(file)
