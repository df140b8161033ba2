"""The work of `prepare`, `remove` and `samples`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from broadbase.commands.options import log, show
from broadbase.core.errors import ConfigError
from broadbase.data.samples.catalog import first, sample, table
from broadbase.data.store.cluster import on_ray, on_slurm
from broadbase.data.store.prepare import remove as remove_documents
from broadbase.data.store.workers import Progress, run_shown
from broadbase.recipes.changes import Changes
from broadbase.recipes.resolve import resolve
from broadbase.report.records import brief_record
from broadbase.run.prepare import prepare_data


def prepare(
    recipe: str,
    data: Sequence[str] | None,
    store: Path,
    executor: str,
    as_json: bool,
    **changes: Unpack[Changes],
) -> None:
    """Prepare the data of a recipe in the folder `store`, and print what it holds."""
    config = resolve(recipe, data, None, **changes)
    stores, _ = prepare_data(config, store, log, _makers(executor))
    rows = [
        {"source": name, **s.manifest["counts"], "licence": s.manifest["licence"]}
        for name, s in stores.items()
    ]
    columns = ("source", "files", "records", "exact", "near", "rejected", "train", "validation")
    show(rows, columns, as_json, f"prepared in {store}")


def _makers(executor: str) -> Progress:
    engine, _, partition = executor.partition(":")
    match engine:
        case "here":
            return run_shown(log)
        case "ray":
            return on_ray()
        case "slurm" if partition:
            return on_slurm(partition)
    raise ConfigError(f"--executor {executor!r} is none of: here, ray, slurm:PARTITION")


def remove(store: Path, ids: Sequence[str]) -> None:
    """Take documents out of prepared data, and say of each source what was."""
    for name, left in remove_documents(store, ids, run_shown(log)).items():
        log.say(f"{name}: {left.summary()}")


def samples(name: str | None, as_json: bool) -> None:
    """Print the sample sets, or the first records of one."""
    if name is None:
        columns = ("name", "modality", "holds", "from", "licence", "cached")
        show(table(), columns, as_json, "sample sets: --data sample:NAME")
        return
    log.say(f"{name}: {sample(name).source.licence}")
    rows = [
        {"origin": r.origin, "label": r.label, "record": brief_record(r.raw)}
        for r in first(name, 5)
    ]
    show(rows, ("origin", "label", "record"), as_json, sample(name).summary)
