"""Codecs of the sources of a store: fitted once, on records to train on, and kept with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from broadbase.core.codec import Codec
from broadbase.core.contracts import ModalityConfig
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.files import discard, draft_folder, write_json
from broadbase.core.sources import Record, Reject, SourceChunk, SourceConfig
from broadbase.data.identity import identity, size_of
from broadbase.data.store.ownership import is_shard
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.shards import finished
from broadbase.data.store.split import numbers_of, threshold
from broadbase.data.store.store import read_facts

MEBI = 1 << 20
WHERE = ("path", "pattern")  # of a source: which files it reads; what they are, their hashes tell
SHOWN = 3  # records that cannot be used
MAKE = "prepare the data again"


class Named(TypedDict):
    """What source.json and modality.json must hold; the rest are settings."""

    name: str


def codecs_of(
    wanted: Mapping[str, StoreRequest],
    folder: Path,
    given: Mapping[str, Codec],
    *,
    holdout: float,
    mebibytes: int,
) -> dict[str, Codec]:
    """Return the codec of each modality.

    As it lies in the stores, or given or fitted and kept there.
    """
    codecs: dict[str, Codec] = {}
    for name in dict.fromkeys(w.name for w in wanted.values()):
        sources = {n: w for n, w in wanted.items() if w.name == name}
        modality = next(iter(sources.values())).modality
        kept = [n for n, w in sources.items() if _begun(folder / n, w)]
        if kept:
            codec = load_codec(folder / kept[0] / "codec", modality)
        elif name in given:
            codec = modality.adopt(given[name])
        else:
            codec = _fitted(modality, list(sources.values()), holdout, mebibytes)
        for source, w in sources.items():
            if source not in kept:
                _save_codec(codec, modality, folder / source / "codec")
            write_json(folder / source / "source.json", _reading(w.source.tree()))
        codecs[name] = codec
    return codecs


def _fitted(
    modality: ModalityConfig, wanted: Sequence[StoreRequest], holdout: float, mebibytes: int
) -> Codec:
    """Return a codec fitted on the sources; DataError names what of them cannot be used."""
    try:
        return modality.fit(training_records(wanted, holdout, mebibytes))
    except DataError as error:
        refused = (line for w in wanted for line in _refused(w))
        raise DataError("\n  ".join([str(error), *islice(refused, SHOWN)])) from None


def _refused(wanted: StoreRequest) -> Iterator[str]:
    """Yield each record of a source that cannot be used, with the reason."""
    for item in wanted.source.records():
        if isinstance(item, Reject):
            yield f"{item.origin}: {item.reason}"
            continue
        try:
            wanted.modality.clean(item.raw)
        except ValueError as error:
            yield f"{item.origin}: {error}"


def _begun(store: Path, wanted: StoreRequest) -> bool:
    """Return whether a store has a codec to go on with; delete what a try without documents left.

    ConfigError where it was begun with other settings: its shards hold other records.
    """
    settings, modality = _reading(wanted.source.tree()), wanted.modality.tree()
    codec, path, shards = store / "codec", store / "source.json", list(finished(store))
    if any(shard.documents for shard in shards):
        kept = read_facts(path, Named, f"delete {store} and prepare the data again")
        before = _with_defaults(kept, wanted.source)
        changed = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
        if changed:
            raise ConfigError(
                f"{store} was prepared with other settings of its source ({', '.join(changed)});"
                " give the same ones, delete it, or give another folder"
            )
    elif shards or (path.exists() and _content(path) != settings) or _other(codec, modality):
        for left in (codec, *(shard.folder for shard in shards)):
            if left.exists():
                discard(left, is_shard if left != codec else _is_codec)
    return (codec / "modality.json").exists()


def _reading(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a source reads its files, a source within it too, wherever they lie."""
    parts = {key: value for key, value in tree.items() if key not in WHERE}
    return {k: _reading(v) if isinstance(v, Mapping) else v for k, v in parts.items()}


def _other(codec: Path, modality: Mapping[str, Any]) -> bool:
    """Return whether a codec is there that is of another modality, or damaged."""
    return codec.exists() and _content(codec / "modality.json") != modality


def _with_defaults(kept: Mapping[str, Any], source: SourceConfig) -> dict[str, Any]:
    """Return what an earlier version wrote of a source, with settings that it did not have yet."""
    now, filled = _reading(source.tree()), dict(kept)
    for name, field in type(source).model_fields.items():
        value = getattr(source, name)
        if isinstance(value, SourceConfig) and isinstance(kept.get(name), Mapping):
            filled[name] = _with_defaults(kept[name], value)
        elif name in now and value == field.get_default(call_default_factory=True):
            filled.setdefault(name, now[name])
    return filled


def _content(path: Path) -> Any:
    """Return what a JSON file holds; nothing where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def load_codec(folder: Path, modality: ModalityConfig) -> Codec:
    """Return the codec of a store."""
    if (
        read_facts(folder / "modality.json", Named, f"delete {folder} and {MAKE}")
        != modality.tree()
    ):
        raise ConfigError(
            f"{folder.parent} was prepared with other settings of modality"
            f" {modality.name!r}; delete it, or give another folder"
        )
    try:
        return modality.load(folder)
    except BroadbaseError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is damaged: {error!r}; delete it and {MAKE}") from None


def _is_codec(folder: Path) -> bool:
    return (folder / "modality.json").exists()


def _save_codec(codec: Codec, modality: ModalityConfig, folder: Path) -> None:
    with draft_folder(folder, _is_codec) as draft:
        codec.save(draft)
        write_json(draft / "modality.json", modality.tree())


def training_records(
    wanted: Sequence[StoreRequest], holdout: float, mebibytes: int = 64
) -> Iterator[Any]:
    """Yield the cleaned records that codecs are fitted on: those of the training side.

    An equal share of the budget from every part, so that no file speaks for all.
    """
    parts = [(w, part) for w in wanted for part in w.source.parts()]
    budget = max(1, mebibytes * MEBI // max(1, len(parts)))
    limit = threshold(np.zeros(0, np.uint64), holdout)
    waiting: list[tuple[int, Any]] = []  # until both sides have one
    sides: set[bool] = set()
    for number, raw in (each for w, part in parts for each in _numbered(w, part, budget)):
        sides.add(bool(number >= limit))
        waiting.append((number, raw))
        if len(sides) == 2:
            yield from (raw for number, raw in waiting if number >= limit)
            waiting = []
    if waiting:
        limit = threshold(np.array([number for number, _ in waiting], np.uint64), holdout)
        training = [raw for number, raw in waiting if number >= limit]
        yield from training or [_head(raw, holdout) for _, raw in waiting]


def _numbered(wanted: StoreRequest, part: SourceChunk, budget: int) -> Iterator[tuple[int, Any]]:
    """Yield the first cleaned records of a part, each with the number that decides its side."""
    taken = 0
    for record in wanted.source.read(part):
        if taken >= budget:
            break
        if isinstance(record, Record):
            try:
                raw = wanted.modality.clean(record.raw)
            except ValueError:
                continue
            document_id = np.frombuffer(identity(record, raw, wanted.paired), np.uint8)
            if isinstance(raw, str | bytes) and wanted.modality.divisible:
                raw = raw[: max(MEBI, budget - taken)]
            taken += size_of(raw)
            yield int(numbers_of(document_id[None])[0]), raw


def _head(raw: Any, holdout: float) -> Any:
    """Return about what a single document is trained on."""
    return raw[: max(1, len(raw) - round(len(raw) * holdout))] if isinstance(raw, str) else raw
