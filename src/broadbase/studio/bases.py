"""The bases that pages use: runs of a folder, those that were named at the start, and samples.

A base is loaded in the thread that computes when a page first needs it; a few stay in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException

from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.usage import Usage
from broadbase.inference.base import Base
from broadbase.model.model import ModelConfig
from broadbase.run.config import RunConfig
from broadbase.run.facts import data_facts
from broadbase.run.run import Run
from broadbase.serve.worker import Worker
from broadbase.studio.abilities import Ability, abilities, parameters
from broadbase.train import checkpoint
from broadbase.weights.folder import load, load_settings, model_folder
from broadbase.weights.samples import SAMPLE_BASES, SCHEME, sample_name

KEPT = 3  # bases in memory


@dataclass(frozen=True)
class Description:
    """What a page says of a base."""

    name: str
    path: str  # what a command takes for it
    modalities: Mapping[str, str]  # the kind of each modality that it reads, by name
    parameters: int
    abilities: Mapping[str, tuple[Ability, ...]]  # by the same names
    run: Path | None = None  # the folder of its run, where its data may be
    step: int | None = None  # of the checkpoint of a run that is not finished

    def can(self, ability: Ability) -> bool:
        """Return whether it can do this with a record of any modality."""
        return any(ability in some for some in self.abilities.values())


class Bases:
    """Bases by name: those of `root`, those in `given` (what commands take, by name), samples.

    What a client asks for is compared with the names that there are; it is never part of a path.
    """

    def __init__(
        self,
        root: Path,
        given: Mapping[str, str],
        worker: Worker,
        device: str = "cpu",
        kept: int = KEPT,
    ) -> None:
        """Keep at most `kept` bases in memory; those used least recently go."""
        self.root, self.given, self.worker, self.device, self.kept = (
            root,
            given,
            worker,
            device,
            kept,
        )
        self._loaded: OrderedDict[tuple[str, str], Base] = OrderedDict()
        self._described: dict[str, tuple[str, Description]] = {}

    def names(self) -> list[str]:
        """Return the names of all bases: those given, of runs in order, of cached samples."""
        return list(self._paths())

    def describe(self, name: str) -> Description:
        """Return what a base is and can do; HTTPException 404 if there is none of this name.

        Its weights are not read. BroadbaseError says what is wrong with its folder.
        """
        path = self._path(name)
        stamp = _stamp(path)
        if name not in self._described or self._described[name][0] != stamp:
            self._described[name] = (stamp, _described(name, path))
        return self._described[name][1]

    def usable(self) -> list[Description]:
        """Return the descriptions of all bases whose folders can be read."""
        usable = []
        for name in self.names():
            try:
                usable.append(self.describe(name))
            except (BroadbaseError, OSError):
                continue
        return usable

    async def get(self, name: str) -> Base:
        """Return a base, loaded in the thread that computes; HTTPException 404 of other names."""
        path = self._path(name)
        return await self.worker.run(self._get, name, path)

    def _get(self, name: str, path: str) -> Base:
        key = (name, _stamp(path))
        if key not in self._loaded:
            for old in [other for other in self._loaded if other[0] == name]:
                del self._loaded[old]
            while len(self._loaded) >= self.kept:  # before loading: both need not fit
                self._loaded.popitem(last=False)
            self._loaded[key] = _load(path, self.device)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _path(self, name: str) -> str:
        path = self._paths().get(name)
        if path is None:
            raise HTTPException(404, f"no base is called {name[:100]!r}")
        return path

    def _paths(self) -> dict[str, str]:
        """Return what commands take, by name; a link out of the root is no run."""
        root = self.root.resolve()
        runs = {
            path.name: str(path)
            for path in sorted(self.root.glob("*"))
            if path.resolve().is_relative_to(root) and _has_weights(path, root)
        }
        samples = {
            SCHEME + name: SCHEME + name
            for name, base in SAMPLE_BASES.items()
            if base.origin.cached
        }
        return {**self.given, **{n: p for n, p in runs.items() if n not in self.given}, **samples}


def _has_weights(folder: Path, root: Path) -> bool:
    """Return whether a folder in the root is a run with a model or a checkpoint within the root."""
    inside = (folder / "model", folder / "checkpoints")
    if not all(path.resolve().is_relative_to(root) for path in inside):
        return False
    if not (folder / "config.yaml").is_file():
        return False
    return (folder / "model" / "config.json").is_file() or bool(_checkpoints(folder))


def _checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints of a run, the oldest first."""
    seals = (folder / "checkpoints").glob(f"step-*/{checkpoint.COMPLETE}")
    return sorted((seal.parent for seal in seals), key=lambda path: path.name)


def _unfinished(path: str) -> bool:
    """Return whether a path is of a run that has no model folder yet."""
    folder = Path(path)
    return (
        sample_name(path) is None
        and (folder / "config.yaml").is_file()
        and not (folder / "model").exists()
    )


def _stamp(path: str) -> str:
    """Return what changes when the weights of a base do."""
    if _unfinished(path):
        return str(_checkpoints(Path(path))[-1:])
    config = model_folder(path) / "config.json"
    return str(config.stat().st_mtime_ns) if config.exists() else ""


def _load(path: str, device: str) -> Base:
    if not _unfinished(path):
        return load(path, device)
    run = Run.open(Path(path))
    saved, _ = checkpoint.newest(run.folder / "checkpoints")
    if saved is None:
        raise DataError(f"{run.folder.name} has no checkpoint that can be read; try again later")
    base = run.base()
    both = (*base.model.named_parameters(), *base.model.named_buffers())
    saved.load({name: tensor.detach() for name, tensor in both})
    base.model.to(device)
    return base


def _described(name: str, path: str) -> Description:
    run = _run_of(path)
    config, usage, objective = _settings(path, run)
    can = abilities(config, usage, objective)
    step = None
    if _unfinished(path) and (steps := _checkpoints(Path(path))):
        step = int(steps[-1].name.removeprefix("step-"))
    return Description(
        name,
        path,
        {space: config.modalities[space].name for space in can},
        parameters(config),
        can,
        run,
        step,
    )


def _settings(path: str, run: Path | None) -> tuple[ModelConfig, Usage, ObjectiveConfig | None]:
    config = None if run is None else RunConfig.of_run(run)
    objective = None if config is None else config.objective
    if not _unfinished(path):
        return (*load_settings(path), objective)
    opened = Run.open(Path(path))
    facts = data_facts(opened.config, opened.stores, opened.codecs)
    return opened.config.model, opened.config.objective.usage(facts), objective


def _run_of(path: str) -> Path | None:
    """Return the folder of the run that a path is of: the run itself, or its model folder."""
    if sample_name(path) is not None:
        return None
    folder = Path(path).expanduser()
    for each in (folder, folder.parent):
        if (each / "config.yaml").is_file() and (each is folder or folder.name == "model"):
            return each
    return None
