"""Prepare: sources to stores. Shards first, each on its own; then one look over all of them.

The second step finds duplicates, gives every cluster a side and writes the index: a pure function
of the shards, however they came about. So a killed `prepare` goes on, added files cost only
themselves, and a document leaves by its id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic import Field

from broadbase.core.codec import Codec
from broadbase.core.config import Config
from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.core.files import discard, refuse_file, sweep, write_json, write_text
from broadbase.core.sources import SourceConfig
from broadbase.data.sources.left_out import left_out
from broadbase.data.store.codecs import codecs_of
from broadbase.data.store.index import join
from broadbase.data.store.ownership import is_shard, refuse_other
from broadbase.data.store.planning import plan, removed_ids
from broadbase.data.store.requests import Snapshot, StoreRequest
from broadbase.data.store.shards import finished
from broadbase.data.store.split import in_common
from broadbase.data.store.store import AGAIN, Manifest, Store, check_files, open_store, read_facts
from broadbase.data.store.workers import Progress, run_here

INDEX = 3  # the version of how an index is made: another one is made again


class PrepareConfig(Config):
    """How records become a store."""

    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The share of the records that is kept for validation."""
    rejects: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The largest share of records that may be unusable; beyond it preparation stops."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The estimated Jaccard similarity from which two documents are near duplicates; 1: only equal
    ones."""
    fit: Annotated[int, Field(ge=1)] = 64
    """The mebibytes of records that a tokenizer is trained on."""
    processes: Annotated[int, Field(ge=1)] = 1
    """The processes that prepare records."""


def prepare(
    wanted: Mapping[str, StoreRequest],
    folder: Path,
    config: PrepareConfig | None = None,
    progress: Progress = run_here,
    given: Mapping[str, Codec] | None = None,
) -> tuple[dict[str, Store], dict[str, Codec]]:
    """Make or bring up to date the stores `folder`/NAME; returns them and the codecs by modality.

    Codecs that `folder` has are kept, so that earlier shards stay good; others are `given` by
    modality, or fitted. DataError where too many
    records cannot be used or a side is empty; ConfigError where `folder` holds other things;
    ResourceError where the disk refuses.
    """
    config = config or PrepareConfig()
    for w in wanted.values():
        _refuse_inside(w.source, folder)
    refuse_file(folder)
    refuse_other(folder, wanted)
    with _alone(folder):
        stores = [folder / name for name in wanted]
        for each in (folder, *stores, *(store / "shards" for store in stores)):
            sweep(each)
        left = left_out(w.source for w in wanted.values())
        snapshots = {name: Snapshot.of(w, left) for name, w in wanted.items()}
        codecs = codecs_of(
            wanted, folder, given or {}, holdout=config.holdout, mebibytes=config.fit
        )
        _make(snapshots, folder, config, codecs, progress)
        try:
            return {name: open_store(folder / name, verify=True) for name in wanted}, codecs
        except DataError:  # something was damaged since it was written: it is made again
            for store in stores:
                _discard_altered(store)
            _make(snapshots, folder, config, codecs, progress)
            return {name: open_store(folder / name, verify=True) for name in wanted}, codecs


def _make(
    snapshots: Mapping[str, Snapshot],
    folder: Path,
    config: PrepareConfig,
    codecs: Mapping[str, Codec],
    progress: Progress,
) -> None:
    """Make the missing shards, then the index where it is missing or is of other shards."""
    removed = removed_ids(folder)
    tasks = [
        task for name, each in snapshots.items() for task in plan(each, folder / name, removed)
    ]
    joined = folder / "joined.json"
    if tasks:
        joined.unlink(missing_ok=True)
        progress(tasks, config.processes)
    current = joined.exists() and joined.read_bytes() == _state(snapshots, folder, config).encode()
    if not (current and _complete(snapshots, folder)):
        write_json(folder / "settings.json", _settings(config))
        _join(snapshots, folder, config, codecs)
        write_text(joined, _state(snapshots, folder, config))


def _discard_altered(store: Path) -> None:
    """Remove the shards whose files were altered since they were written, and the index."""
    (store.parent / "joined.json").unlink(missing_ok=True)
    for shard in finished(store):
        try:
            check_files(shard.folder, shard.facts["hashes"], verify=True)
        except DataError:
            discard(shard.folder, is_shard)


def _refuse_inside(source: SourceConfig, folder: Path) -> None:
    """Raise ConfigError where the source would read what is written into `folder`."""
    written = [folder.resolve() / name for name in ("rejected.jsonl", "duplicates.jsonl")]
    if any(source.would_read(path) for path in written):
        raise ConfigError(
            f"{folder} lies in the data of source {source.name!r}, which would read its files as"
            " data the next time; put the data into a folder of its own, or --store and --out"
            " elsewhere"
        )


def _join(
    snapshots: Mapping[str, Snapshot],
    folder: Path,
    config: PrepareConfig,
    codecs: Mapping[str, Codec],
) -> None:
    """Index the sources of one modality together, and each source of a pair alone."""
    together: dict[str, dict[str, Snapshot]] = {}
    pairs: dict[str, Any] = {}
    for name, each in snapshots.items():
        group = f"pair {name}" if each.wanted.paired else each.wanted.name
        together.setdefault(group, {})[name] = each
        if each.wanted.paired:
            ids = [s.array("ids") for s in finished(folder / name) if s.documents]
            pairs[group] = np.concatenate([np.zeros((0, 16), np.uint8), *ids])
    among = in_common(pairs)
    for group, some in together.items():
        one = next(iter(some.values())).wanted
        join(
            some,
            folder,
            codecs[one.name],
            holdout=config.holdout,
            rejects=config.rejects,
            similarity=1.0 if one.paired else config.similarity,
            among=among.get(group),
        )


def _complete(names: Iterable[str], folder: Path) -> bool:
    """Return whether no file of the stores is missing or of another size."""
    try:
        for name in names:
            open_store(folder / name)
    except DataError:
        return False
    return True


def _settings(config: PrepareConfig) -> dict[str, Any]:
    return {key: config.tree()[key] for key in PrepareConfig.model_fields}


def _state(snapshots: Mapping[str, Snapshot], folder: Path, config: PrepareConfig) -> str:
    """Return all that an index depends on, but for shards just made.

    Equal, it need not be made again.
    """
    sources = {
        name: {
            "source": each.wanted.source.tree(),
            "modality": each.wanted.modality.tree(),
            "kind": each.wanted.name,
            "paired": each.wanted.paired,
            "left_out": each.left_out,
            "shards": [shard.folder.name for shard in finished(folder / name)],
        }
        for name, each in snapshots.items()
    }
    settings = {k: v for k, v in _settings(config).items() if k != "processes"}
    return json.dumps({"index": INDEX, "settings": settings, "sources": sources})


def remove(folder: Path, ids: Sequence[str], progress: Progress = run_here) -> dict[str, Store]:
    """Take documents out of the stores in `folder` for good, with all that duplicate them.

    Their shards are made again without them, so nothing of them stays on disk. Once the list of
    them is written, whatever prepares the stores next does the same. DataError where an id is in
    no store.
    """
    paths = sorted(folder.glob("*/manifest.json"))
    manifests = {path.parent.name: read_facts(path, Manifest) for path in paths}
    if not manifests:
        raise DataError(f"{folder} holds no prepared data (NAME/manifest.json)")
    try:
        settings = read_facts(folder / "settings.json", dict)
        config = PrepareConfig.from_tree(settings)
        wanted = {
            name: StoreRequest(
                SourceConfig.from_tree(m["source"]),
                ModalityConfig.from_tree(m["modality"]),
                m["kind"],
                m["paired"],
            )
            for name, m in manifests.items()
        }
    except ConfigError as error:
        raise DataError(
            f"the settings in {folder} are damaged: {error}; prepare it again"
        ) from None
    with _alone(folder):
        gone, before = {*ids, *_duplicates(folder, manifests, ids)}, removed_ids(folder)
        stored = set(before)
        for name in manifests:
            for shard in finished(folder / name):
                stored |= gone & {bytes(row).hex() for row in shard.array("ids")}
        if unknown := sorted(set(ids) - stored):
            raise DataError(f"no document of {folder} has the id {unknown[0]}; `inspect` shows ids")
        write_json(folder / "removed.json", sorted(before | (gone & stored)))
    return prepare(wanted, folder, config, progress)[0]


def _duplicates(folder: Path, names: Iterable[str], ids: Sequence[str]) -> set[str]:
    """Return the ids of documents that are left out as duplicates of some."""
    duplicates = set()
    for name in names:
        path = folder / name / "duplicates.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            duplicates |= {row["id"] for row in rows if row["kept_id"] in ids}
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{path} is damaged; {AGAIN}") from None
    return duplicates


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Yield one process at a time may change a store; disk errors become ResourceError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
            (folder / ".lock").unlink(missing_ok=True)  # others look whether it is there
    except Timeout:
        raise ConfigError(f"another process is preparing {folder}; wait for it") from None
    except ResourceError:
        raise
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror or error}; free space or permissions"
            " there, or give another folder"
        ) from None
