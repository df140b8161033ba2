"""The check of a source: order, origins, parts, and what becomes of its records in a store."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

from broadbase.core.contracts import ModalityConfig
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.testing.promise import promise, same


def check_source(config: SourceConfig, modality: ModalityConfig, *, rejects: int = 0) -> None:
    """Check what a source promises; BrokenPromiseError says in one sentence what does not hold.

    `modality` is that of its records, of which there are at least two that differ. `rejects` is
    how many items cannot be used, by the source or by the modality: they are counted.
    """
    promise(
        same(type(config).from_tree(config.tree()), config),
        f"settings are read back from their tree as they were: {config.tree()}",
    )
    items = list(config.records())
    promise(any(isinstance(item, Record) for item in items), "a source has records")
    promise(
        same(list(config.records()), items),
        "records come in the same order every time, with the same origin, label, key and group",
    )
    _check_items(items)
    _check_parts(config, items)
    _check_store(config, modality, rejects)


def _check_items(items: list[Record | Reject]) -> None:
    for item in items:
        promise(
            isinstance(item, Record | Reject), f"records are Record or Reject, not {type(item)}"
        )
        promise(bool(item.origin), f"each item names its origin: {item!r:.80}")
        promise(
            isinstance(item, Record) or bool(item.reason),
            f"each Reject names its reason: {item.origin}",
        )
    origins = [item.origin for item in items if isinstance(item, Record)]
    twice = sorted({origin for origin in origins if origins.count(origin) > 1})
    promise(not twice, f"an origin leads to one record, and {twice[:3]} lead to several")


def _check_parts(config: SourceConfig, items: list[Record | Reject]) -> None:
    parts = list(config.parts())
    promise(same(list(config.parts()), parts), "parts come in the same order every time")
    there = pickle.loads(pickle.dumps(config))  # as another process gets it
    read = [list(there.read(part)) for part in reversed(parts)]
    joined = [item for each in reversed(read) for item in each]
    promise(
        same(joined, items),
        "each part is read by itself: read last to first, in another process, the parts have other"
        " items than records",
    )
    files = config.fingerprint()
    promise(
        bool(files) and files == config.fingerprint(),
        "fingerprint has a digest for each file of the source, and is the same every time",
    )
    strange = [part.name for part in parts if part.name and part.name not in files]
    promise(not strange, f"the name of a part is a key of fingerprint, not {strange[:3]}")


def _check_store(config: SourceConfig, modality: ModalityConfig, rejects: int) -> None:
    with TemporaryDirectory() as name:
        wanted = {"source": StoreRequest(config, modality, modality.name)}
        settings = PrepareConfig(holdout=0.3, rejects=1.0)
        stores, _ = prepare(wanted, Path(name), settings)
        store = stores["source"]
        counts = store.manifest["counts"]
        promise(
            counts["rejected"] == rejects,
            f"each item that cannot be used is counted: {rejects} are expected, and of"
            f" {counts['records']} items {counts['rejected']} were rejected by the source or by"
            f" {modality.name!r}",
        )
        sides = [store.ids("train"), store.ids("validation")]
        promise(
            all(sides) and not {*sides[0]} & {*sides[1]},
            "training and held-out records are apart, and there are some of both",
        )
