"""The command `adapt`: a base fitted to a labelled task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from broadbase.adapt.adapt import Method
from broadbase.adapt.adapt import adapt as adapt_to
from broadbase.adapt.finetune import FinetuneConfig, finetune
from broadbase.adapt.reading import as_read, kind_of, reader
from broadbase.adapt.task import read_task
from broadbase.commands.options import Json, OneData, app, log, show
from broadbase.core.config import override
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.data.detect import labelled
from broadbase.data.sources.left_out import notes
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import base_at, must_be_free, save


@app.command()
def adapt(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    data: OneData,
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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Of fine-tuning: steps, batch, lr, weight_decay."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep the fine-tuned model.")] = None,
    as_json: Json = False,
) -> None:
    """Adapt a base to a labelled task, beside its random init; it reads 1,024 positions of a record
    at most."""
    if numeric and (places or macro):
        raise ConfigError(f"{'--places' if places else '--macro'} is for classes, not --numeric")
    tuning = _tuning(method, settings, out)
    MachineConfig().prepare()
    base = base_at(model)
    source = labelled(data, field, label)
    kind = modality or kind_of(base, source)
    task = read_task(
        Path(data).stem, kind, source, numeric=numeric, places=places, read=reader(base, kind)
    )
    task = as_read(base, replace(task, macro=macro))
    for line in (task.summary, *task.notes, *notes(source)):
        log.say(line)
    (row,) = adapt_to(
        base, task, method, [labels], test, seeds, beside=True, settings=tuning, console=log
    )
    if out is not None:
        train, _ = task.split(labels, test, 0)
        save(finetune(base, task, train, tuning), out)
        log.say(f"fine-tuned model in {out}")
    if as_json:
        echo(json.dumps([row.row()]))
        return
    mean, low, high = row.gain
    shown: dict[str, Any] = {
        row.guess: row.chance,
        "random": float(np.mean(row.random)),
        "pretrained": float(np.mean(row.pretrained)),
        "gain": mean,
        **({} if low is None else {"low": low, "high": high}),
    }
    if row.best is not None:
        shown |= {"classical": float(np.mean(row.classical[row.best])), "by": row.best}
    show([shown], list(shown), False, row.title)


def _tuning(method: Method, settings: Sequence[str] | None, out: Path | None) -> FinetuneConfig:
    """The settings of fine-tuning; ConfigError where options do not fit, before any work."""
    if method is not Method.finetune:
        for given, option in ((out, "--out keeps"), (settings, "--set changes")):
            if given:
                raise ConfigError(f"{option} a fine-tuned model; add --method finetune")
    if out is not None:
        must_be_free(out)
    tree = FinetuneConfig().tree()
    for setting in settings or ():
        tree = override(tree, setting)
    return FinetuneConfig.from_tree(tree)
