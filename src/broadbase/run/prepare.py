"""The prepared data of a run: made, or opened again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError, DataError, RejectedError
from broadbase.core.files import discard, named, refuse_file
from broadbase.data.sources.finding import counted
from broadbase.data.store.codecs import load_codec
from broadbase.data.store.ownership import is_lock
from broadbase.data.store.prepare import prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.store import Store, open_store, present, read_facts
from broadbase.data.store.workers import Progress, run_here, run_shown
from broadbase.run.config import RunConfig
from broadbase.weights import folder as model_folder
from broadbase.weights.warm_start import compatible

Tree = dict[str, Any]  # of a RunConfig
OURS = (
    *("config.yaml", "env.json", "metrics.jsonl", "data", "checkpoints", "lock"),
    *("process.json", "last_error.json", "evaluation.json"),
)
WRITTEN = ("env.json", "metrics.jsonl", "checkpoints", "model")  # by a run, once it has its lock


def data_folder(config: RunConfig, folder: Path) -> Path:
    """Return the folder of a run's prepared sources."""
    return Path(config.data.store).expanduser() if config.data.store else folder / "data"


def prepare_data(
    config: RunConfig,
    folder: Path,
    console: Console | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Store], dict[str, Codec]]:
    """Make the stores `folder`/SOURCE of a config's data, or update them; return the codecs too.

    Where the files of the sources are gone, stores that were made from them suffice.
    """
    check_reference(config)
    config = anchored(config)
    wanted = {
        name: StoreRequest(
            m.source, config.model.modalities[m.modality], m.modality, bool(m.pair_group)
        )
        for name, m in config.data.sources.items()
    }
    progress = progress or (run_here if console is None else run_shown(console))
    base = model_folder.load(config.init_from) if config.init_from else None
    if all(_prepared(w, folder / name) for name, w in wanted.items()):
        stores, codecs = open_stores(config, folder), load_codecs(config, folder)
    else:
        given = base.codecs if base else {}
        stores, codecs = prepare(wanted, folder, config.data, progress, given)
    if base:
        compatible(base, codecs, config.model, str(config.init_from))
    if console is not None:
        for name, store in stores.items():
            console.print(f"{name}: {store.summary()}", highlight=False, soft_wrap=True)
        if left := counted(next(iter(stores.values())).left_out):
            console.print(f"left out, as no source reads them: {left}", soft_wrap=True)
    return stores, codecs


def check_reference(config: RunConfig) -> None:
    """Refuse reference likelihoods of another model than the one that is trained: ConfigError."""
    teacher, objective = config.teacher, config.objective
    if objective.needs_start and not (teacher and teacher.is_start):
        now = teacher.name if teacher else "none"
        raise ConfigError(
            f"teacher: objective {objective.name!r} compares with the likelihoods of the model that"
            f" training starts from, and the teacher is {now}; set teacher.name=start"
        )


def _prepared(wanted: StoreRequest, store: Path) -> bool:
    """Return whether a store is all that is left of a source: made from it, and nothing else."""
    if present(wanted.source) or not (store / "manifest.json").exists():
        return False
    made = open_store(store).manifest
    return (_anchor(made["source"]), made["modality"], made["kind"], made["paired"]) == (
        _anchor(wanted.source.tree()),
        wanted.modality.tree(),
        wanted.name,
        wanted.paired,
    )


def adopted(tree: Tree, folder: Path) -> Tree:
    """Return a config tree with the modalities and settings of the stores in `folder`."""
    tree = deepcopy(tree)
    for name, mixed in tree["data"]["sources"].items():
        if (folder / name / "manifest.json").exists():
            made = open_store(folder / name).manifest
            mixed["source"] = made["source"]
            tree["model"]["modalities"][mixed["modality"]] = made["modality"]
    if (folder / "settings.json").exists():
        tree["data"] |= read_facts(folder / "settings.json", dict)
    return tree


def open_stores(config: RunConfig, folder: Path, *, compare: bool = False) -> dict[str, Store]:
    """Open the stores of a config in `folder`, every byte verified; DataError where one is damaged.

    With `compare` also where the files that it was made from are still there and have changed.
    """
    return {
        name: open_store(folder / name, verify=True, source=mixed.source if compare else None)
        for name, mixed in config.data.sources.items()
    }


def load_codecs(config: RunConfig, folder: Path) -> dict[str, Codec]:
    """Load the codecs in the stores, by modality."""
    first = {m.modality: name for name, m in reversed(config.data.sources.items())}
    return {
        modality: load_codec(folder / source / "codec", config.model.modalities[modality])
        for modality, source in first.items()
    }


def anchored(config: RunConfig) -> RunConfig:
    """Return the config with absolute paths of files that are here: good in every folder."""
    tree = config.tree()
    for mixed in tree["data"]["sources"].values():
        mixed["source"] = _anchor(mixed["source"], missing=False)
    for part, key in (
        (tree["data"], "store"),
        (tree, "init_from"),
        (tree["teacher"] or {}, "path"),
    ):
        if part.get(key):
            part[key] = _absolute(part[key], missing=key == "store")
    return config if tree == config.tree() else RunConfig.from_tree(tree)


def _anchor(source: Mapping[str, Any], *, missing: bool = True) -> dict[str, Any]:
    """Make the paths in a source's settings absolute, those of a source within it too."""
    anchored = dict(source)
    for key, value in source.items():
        if isinstance(value, Mapping):
            anchored[key] = _anchor(value, missing=missing)
        elif key == "path" and isinstance(value, str):
            anchored[key] = _absolute(value, missing=missing)
    return anchored


def _absolute(text: str, *, missing: bool) -> str:
    path = Path(text).expanduser()
    return str(path.absolute()) if missing or path.exists() else text


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the run in `folder`; ConfigError where one does already.

    A process may enter it again. Of several ranks the first holds the lock.
    """
    if not first_rank():
        yield
        return
    # The file stays there, as another process may be about to lock it
    lock = FileLock(folder / "lock", is_singleton=True)
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another process trains {folder}; wait until it has ended, or stop it"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """Begin a new run in `folder` in this context; where it is refused, nothing of it remains.

    A folder that held anything before, and a run that has a checkpoint, stay. ConfigError where it
    holds what is not of a run, and would be overwritten.
    """
    if first_rank():
        refuse_file(folder)
        _refuse_other(folder)
    new = first_rank() and (not folder.exists() or not any(folder.iterdir()))
    parents = [path for path in (folder, *folder.parents) if not path.exists()]
    with alone(folder):
        try:
            yield
        except (ConfigError, DataError) as error:
            if not new or any((folder / "checkpoints").glob("step-*")):
                raise
            for name in OURS:
                if (folder / name).exists():
                    discard(folder / name)
            with suppress(OSError):
                for path in parents:
                    path.rmdir()
            if isinstance(error, RejectedError) and not error.path.exists():
                kept = "`broadbase prepare` with --store keeps the list of all of them"
                raise DataError(f"{error.reasons}\n{kept}") from None
            raise


def _refuse_other(folder: Path) -> None:
    if (folder / "config.yaml").exists():
        return
    lock = folder / "lock"
    others = ["lock"] if lock.exists() else [n for n in WRITTEN if (folder / n).exists()]
    if others and not (lock.exists() and is_lock(lock)):
        raise ConfigError(
            f"{folder} holds no run, but {', '.join(others)}, which a run would overwrite; give"
            " another --out"
        )


def first_rank() -> bool:
    """Return whether this process is the one that writes the run's files."""
    return os.environ.get("RANK", "0") == "0"
