"""The commands of data: `prepare`, `inspect`, `remove`, `samples`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from broadbase.commands.inspect import inspected
from broadbase.commands.inspect import show as show_inspected
from broadbase.commands.options import (
    Data,
    FieldName,
    Json,
    Like,
    Pattern,
    RecipeName,
    Set,
    app,
    log,
    show,
)
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.data.samples.catalog import first, sample, table
from broadbase.data.store.cluster import on_ray, on_slurm
from broadbase.data.store.prepare import remove as remove_documents
from broadbase.data.store.workers import Progress, run_shown
from broadbase.recipes.resolve import resolved
from broadbase.run.prepare import prepare_data

CORES = os.cpu_count() or 1


@app.command()
def prepare(
    recipe: RecipeName,
    store: Annotated[Path, typer.Option(help="The folder of the prepared data.")],
    data: Data = None,
    field: FieldName = None,
    pattern: Pattern = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes of this machine.")] = CORES,
    on: Annotated[str, typer.Option(help="Who makes it: here, ray, slurm:PARTITION.")] = "here",
    like: Like = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Clean, deduplicate and encode data into a store; go on where an earlier try was stopped."""
    changes = [*(settings or []), f"data.processes={processes}"]
    config = resolved(recipe, data, None, changes, field=field, pattern=pattern, like=like)
    stores, _ = prepare_data(config, store, log, _makers(on))
    rows = [
        {"source": name, **s.manifest["counts"], "licence": s.manifest["licence"]}
        for name, s in stores.items()
    ]
    columns = ("source", "files", "records", "exact", "near", "rejected", "train", "validation")
    show(rows, columns, as_json, f"prepared in {store}")


def _makers(on: str) -> Progress:
    engine, _, partition = on.partition(":")
    match engine:
        case "here":
            return run_shown(log)
        case "ray":
            return on_ray()
        case "slurm" if partition:
            return on_slurm(partition)
    raise ConfigError(f"--on {on!r} is none of: here, ray, slurm:PARTITION")


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one of prepared data.")],
    examples: Annotated[int, typer.Option(min=0, help="Records and duplicates to show.")] = 3,
    as_json: Json = False,
) -> None:
    """What a model reads: mixture, epochs, lengths, duplicates, records decoded from the store."""
    found = inspected(folder, examples)
    if as_json:
        echo(json.dumps(found))
    else:
        show_inspected(found)


@app.command()
def remove(
    store: Annotated[Path, typer.Argument(help="A folder of prepared data.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of documents, as `inspect` shows them.")],
) -> None:
    """Take documents, and what duplicates them, out of prepared data for good."""
    for name, left in remove_documents(store, ids, run_shown(log)).items():
        log.say(f"{name}: {left.summary()}")


@app.command()
def samples(
    name: Annotated[str | None, typer.Argument(help="A sample set to fetch and look at.")] = None,
    as_json: Json = False,
) -> None:
    """Real data to try things on, from packages; use one with --data sample:NAME."""
    if name is None:
        columns = ("name", "modality", "holds", "from", "licence", "cached")
        show(table(), columns, as_json, "sample sets: --data sample:NAME")
        return
    log.say(f"{name}: {sample(name).source.licence}")
    rows = [{"place": r.place, "label": r.label, "record": _brief(r.raw)} for r in first(name, 5)]
    show(rows, ("place", "label", "record"), as_json, sample(name).summary)


def _brief(raw: Any) -> str:
    text = raw if isinstance(raw, str) else f"array {np.asarray(raw).shape}"
    return text if len(text) <= 60 else text[:60] + "..."
