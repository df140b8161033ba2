"""Prepare: sources to stores. Shards first, each on its own; then one look over all of them.

The second step finds duplicates, gives every cluster a side and writes the index: a pure function
of the shards, however they came about. So a killed `prepare` goes on, added files cost only
themselves, and a document leaves by its id.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic import Field

from broadbase.core.config import Config
from broadbase.core.contracts import Codec, ModalityConfig, Part, Record, SourceConfig
from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.data.index import digests, held_out, join
from broadbase.data.shards import ShardTask, Wanted, finished, identity, part_key, size_of
from broadbase.data.sources import FilesConfig
from broadbase.data.store import Store, open_store
from broadbase.data.workers import Progress, run_here

MEBI = 1 << 20
SHARD = 16 * MEBI  # bytes of source that a shard has at least, where there are more
WHERE = ("path", "pattern")  # of a source: which files it reads; what they are, their hashes tell


class PrepareConfig(Config):
    """How records become a store."""

    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.05  # the share kept for validation
    rejects: Annotated[float, Field(ge=0, le=1)] = 0.01  # the share of unusable records allowed
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.75  # of near duplicates; 1: only exact
    fit: Annotated[int, Field(ge=1)] = 64  # mebibytes that a tokenizer learns from
    processes: Annotated[int, Field(ge=1)] = 1


def prepare(
    wanted: Mapping[str, Wanted],
    folder: Path,
    config: PrepareConfig | None = None,
    progress: Progress = run_here,
    given: Mapping[str, Codec] | None = None,
) -> tuple[dict[str, Store], dict[str, Codec]]:
    """Make or bring up to date the stores `folder`/NAME; returns them and the codecs by modality.

    Codecs that `folder` has are kept, so that earlier shards stay good; others are `given` by
    modality, or fitted. DataError where too many
    records cannot be used or a side is empty; ResourceError where the disk refuses.
    """
    config = config or PrepareConfig()
    for w in wanted.values():
        _apart(w.source, folder)
    with _alone(folder):
        codecs = _codecs(wanted, folder, config, given or {})
        tasks = [task for name, w in wanted.items() for task in plan(w, folder / name)]
        joined = folder / "joined.json"
        if tasks:
            joined.unlink(missing_ok=True)
            progress(tasks, config.processes)
        known = joined.exists() and joined.read_text() == _state(wanted, folder, config)
        if not (known and _whole(wanted, folder)):
            _join(wanted, folder, config, codecs)
            joined.write_text(_state(wanted, folder, config))
    return {name: open_store(folder / name, verify=True) for name in wanted}, codecs


def _apart(source: SourceConfig, folder: Path) -> None:
    """ConfigError where a source would read what is written into `folder`."""
    if not isinstance(source, FilesConfig) or not Path(source.path).expanduser().is_dir():
        return
    data, globs = Path(source.path).expanduser().resolve(), source.pattern.split()
    written = [folder.resolve() / name for name in ("rejected.jsonl", "duplicates.jsonl")]
    if data in written[0].parents and any(file.match(glob) for file in written for glob in globs):
        raise ConfigError(
            f"{folder} lies in the data {source.path}, whose files would be read as data the next"
            " time; put the data into a folder of its own, or --store and --out elsewhere"
        )


def _join(
    wanted: Mapping[str, Wanted], folder: Path, config: PrepareConfig, codecs: Mapping[str, Codec]
) -> None:
    """Sources of one modality are looked at together; one of a pair keeps what is like another."""
    together: dict[str, dict[str, Wanted]] = {}
    for name, w in wanted.items():
        together.setdefault(f"pair {name}" if w.paired else w.name, {})[name] = w
    for some in together.values():
        one = next(iter(some.values()))
        join(
            some,
            folder,
            codecs[one.name],
            holdout=config.holdout,
            rejects=config.rejects,
            similarity=1.0 if one.paired else config.similarity,
        )
    (folder / "settings.json").write_text(json.dumps(_settings(config)))


def _whole(wanted: Mapping[str, Wanted], folder: Path) -> bool:
    """Whether no file of the stores is missing or of another size."""
    try:
        for name in wanted:
            open_store(folder / name)
    except DataError:
        return False
    return True


def _settings(config: PrepareConfig) -> dict[str, Any]:
    return {key: config.tree()[key] for key in PrepareConfig.model_fields}


def _state(wanted: Mapping[str, Wanted], folder: Path, config: PrepareConfig) -> str:
    """All that an index depends on, but for shards just made: equal, it need not be made again."""
    sources = {
        name: {
            "source": w.source.tree(),
            "modality": w.modality.tree(),
            "kind": w.name,
            "paired": w.paired,
            "shards": [shard.folder.name for shard in finished(folder / name)],
        }
        for name, w in wanted.items()
    }
    settings = {k: v for k, v in _settings(config).items() if k != "processes"}
    return json.dumps({"settings": settings, "sources": sources})


def plan(wanted: Wanted, store: Path) -> list[ShardTask]:
    """The shards that a store still lacks; those whose parts changed or went are deleted."""
    found = digests(wanted.source)
    keys = {part_key(p, found[p.name], wanted.paired): p for p in wanted.source.parts()}
    covered: set[str] = set()
    for shard in finished(store):
        if set(shard.facts["keys"]) <= keys.keys() - covered:
            covered |= set(shard.facts["keys"])
        else:
            shutil.rmtree(shard.folder)
    missing = [part for key, part in keys.items() if key not in covered]
    removed = frozenset(removed_ids(store))
    return [
        ShardTask(
            store, wanted.source, wanted.modality, parts, tuple(found[p.name] for p in parts),
            removed, wanted.paired,
        )
        for parts in _groups(missing)
    ]  # fmt: skip


def training_records(
    wanted: Sequence[Wanted], holdout: float, mebibytes: int = 64
) -> Iterator[Any]:
    """Cleaned records that fall on the training side by themselves: what codecs are fitted on.

    An equal share of the budget from every part, so that no file speaks for all.
    """
    parts = [(w, part) for w in wanted for part in w.source.parts()]
    budget = max(1, mebibytes * MEBI // max(1, len(parts)))
    for w, part in parts:
        taken = 0
        for record in w.source.read(part):
            if taken >= budget:
                break
            if isinstance(record, Record):
                try:
                    raw = w.modality.clean(record.raw)
                except ValueError:
                    continue
                taken += size_of(raw)
                mine = np.frombuffer(identity(record, raw, w.paired), np.uint8)
                if not held_out(mine[None], holdout)[0]:
                    yield raw


def remove(folder: Path, ids: Sequence[str], progress: Progress = run_here) -> dict[str, Store]:
    """Take documents out of the stores in `folder` for good, with all that duplicate them.

    Their shards are made again without them, so nothing of them stays on disk; DataError where an
    id is in no store.
    """
    manifests = {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/manifest.json")}
    gone = set(ids)
    for name in manifests:
        lines = (folder / name / "duplicates.jsonl").read_text().splitlines()
        gone |= {row["id"] for row in map(json.loads, lines) if row["kept_id"] in ids}
    known: set[str] = set()
    for name in manifests:
        for shard in finished(folder / name):
            mine = gone & {bytes(row).hex() for row in shard.array("ids")}
            known |= mine
            if mine:
                kept = sorted({*removed_ids(folder / name), *mine})
                (folder / name / "removed.json").write_text(json.dumps(kept))
                shutil.rmtree(shard.folder)
    if unknown := sorted(set(ids) - known):
        raise DataError(f"no document of {folder} has the id {unknown[0]}; `inspect` shows ids")
    wanted = {
        name: Wanted(
            SourceConfig.from_tree(m["source"]),
            ModalityConfig.from_tree(m["modality"]),
            m["kind"],
            m["paired"],
        )
        for name, m in manifests.items()
    }
    settings = PrepareConfig.from_tree(json.loads((folder / "settings.json").read_text()))
    return prepare(wanted, folder, settings, progress)[0]


def removed_ids(store: Path) -> list[str]:
    """The ids of documents that were removed and must not come back."""
    path = store / "removed.json"
    return json.loads(path.read_text()) if path.exists() else []


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time may change a store; disk errors become ResourceError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
        (folder / ".lock").unlink(missing_ok=True)
    except Timeout:
        raise ConfigError(f"another process is preparing {folder}; wait for it") from None
    except ResourceError:
        raise
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror or error}; free space or permissions"
            " there, or give another folder"
        ) from None


def _codecs(
    wanted: Mapping[str, Wanted], folder: Path, config: PrepareConfig, given: Mapping[str, Codec]
) -> dict[str, Codec]:
    """The codec of each modality, as it lies in the stores, or given or fitted and kept there."""
    found: dict[str, Codec] = {}
    for name in dict.fromkeys(w.name for w in wanted.values()):
        sources = {n: w for n, w in wanted.items() if w.name == name}
        settings = {n: _reading(w.source.tree()) for n, w in sources.items()}
        for source, its in settings.items():
            _same_source(folder / source / "source.json", its)
        kept = [n for n in sources if (folder / n / "codec" / "modality.json").exists()]
        modality = next(iter(sources.values())).modality
        if kept:
            _same_codec(folder / kept[0] / "codec" / "modality.json", modality)
            codec = modality.load(folder / kept[0] / "codec")
        elif name in given:
            codec = given[name]
        else:
            codec = modality.fit(
                training_records(list(sources.values()), config.holdout, config.fit)
            )
        for source in sources:
            if source not in kept:
                _save_codec(codec, modality, folder / source / "codec")
            (folder / source / "source.json").write_text(json.dumps(settings[source]))
        found[name] = codec
    return found


def _reading(tree: Mapping[str, Any]) -> dict[str, Any]:
    """How a source reads its files, a source within it too, wherever they lie."""
    parts = {key: value for key, value in tree.items() if key not in WHERE}
    return {k: _reading(v) if isinstance(v, Mapping) else v for k, v in parts.items()}


def _same_source(path: Path, settings: Mapping[str, Any]) -> None:
    """ConfigError where a store was begun with other settings: its shards hold other records."""
    before = json.loads(path.read_text()) if path.exists() else settings
    if before != settings:
        keys = before.keys() | settings.keys()
        changed = sorted(key for key in keys if before.get(key) != settings.get(key))
        raise ConfigError(
            f"{path.parent} was prepared with other settings of its source ({', '.join(changed)});"
            " delete it, or give another folder"
        )


def _same_codec(path: Path, modality: ModalityConfig) -> None:
    if json.loads(path.read_text()) != modality.tree():
        raise ConfigError(
            f"{path.parent.parent} was prepared with other settings of modality"
            f" {modality.name!r}; delete it, or give another folder"
        )


def _save_codec(codec: Codec, modality: ModalityConfig, folder: Path) -> None:
    draft = folder.with_name(".codec.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    codec.save(draft)
    (draft / "modality.json").write_text(json.dumps(modality.tree()))
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def _groups(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """Parts in order, together at least SHARD bytes a group."""
    group: list[Part] = []
    for part in parts:
        group.append(part)
        if sum(p.size for p in group) >= SHARD:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)
