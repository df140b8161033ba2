"""The commands of training: `pretrain`, `resume`, `sbatch`, `recipes`."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands.options import (
    Data,
    Depth,
    Device,
    FieldName,
    Json,
    Like,
    Pattern,
    RecipeName,
    Set,
    Start,
    app,
    fresh,
    log,
    show,
)
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.data.detect import STORE
from broadbase.recipes.printed import documented
from broadbase.recipes.recipe import all_recipes, example, expected, find_recipe
from broadbase.recipes.resolve import overridden, resolved
from broadbase.run.prepare import beginning
from broadbase.run.run import Run
from broadbase.train.slurm import script as slurm_script


@app.command()
def pretrain(
    recipe: RecipeName,
    data: Data = None,
    depth: Depth = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. [by depth]")] = None,
    context: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a row: the context length. [by recipe]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows a step. [by depth]")] = None,
    store: Annotated[Path | None, typer.Option(help="Prepared data to use or make.")] = None,
    field: FieldName = None,
    pattern: Pattern = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. [runs/RECIPE-N]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The source of all chance. [0]")] = None,
    device: Device = "auto",
    start: Start = None,
    like: Like = None,
    settings: Set = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the config, as YAML, and train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a base on raw data, without labels; from nothing, or on from another base."""
    changes = [f"machine.device={device}"] if device != "auto" else []
    changes += [f"seed={seed}"] if seed is not None else []
    changes += [f"data.store={json.dumps(str(store))}"] if store else []
    if data is None and store is not None and any(store.glob("*/manifest.json")):
        data = [f"{STORE}{store}"]
    config = resolved(
        recipe,
        data,
        depth,
        [*(settings or []), *changes],
        field=field,
        pattern=pattern,
        start=start,
        like=like,
        steps=steps,
        context=context,
        batch_size=batch_size,
    )
    if print_config:
        echo(documented(config), end="")
        return
    if out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("several ranks must agree on the run's folder: add --out")
    folder = out or fresh(Path("runs"), config.recipe)
    with beginning(folder):
        _train(Run.create(config, folder, log), as_json)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped, from its newest good checkpoint.

    With --set train.steps=N a finished run goes on, at the learning rate that a schedule of N steps
    has there. The learning rate, its schedule, the weight decay and the clipping may change too;
    the journal records it.
    """
    change = partial(overridden, settings=settings or [])
    _train(Run.open(folder, change=change, compare=True), as_json)


@app.command()
def sbatch(
    command: Annotated[list[str], typer.Argument(help="-- pretrain ... --out FOLDER")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Processes a node; GPUs, where it has.")] = 1,
    time: Annotated[str, typer.Option(help="The longest a job may take.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Ask for no GPUs.")] = False,
) -> None:
    """Print a Slurm script that trains on many ranks and is requeued when preempted."""
    echo(slurm_script(command, nodes, ranks, time, partition, gpus=not cpu), end="")


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, whose whole config is printed.")
    ] = None,
    depth: Depth = None,
    as_json: Json = False,
) -> None:
    """What can be trained out of the box; of one recipe every setting, as a config.yaml."""
    if name is not None:
        config = example(find_recipe(name), depth or 4)
        echo(json.dumps(config.tree()) if as_json else documented(config), end="")
        return
    known = expected()
    rows = [
        {"recipe": r.name, "what": r.summary, **known.get(r.name, {})}
        for r in all_recipes().values()
    ]
    columns = ["recipe", "what", "modality", "objective", "seconds", "result"]
    show(rows, columns, as_json, "broadbase pretrain RECIPE --data PATH --depth 4")


def _train(run: Run, as_json: bool) -> None:
    result = run.train(log)
    if os.environ.get("RANK", "0") != "0":
        return
    log.say(f"model in {run.folder / 'model'}")
    rows = [{"source": k, **v} for k, v in result.items()]
    title = f"held out: the first {run.config.data.final_rows:,} rows of each source"
    show(rows, ["source", "unit", "nats_per_place", "bits_per_unit"], as_json, title)
