"""The command `evaluate`: a base on held-out data, compared with baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands.options import Json, app, show
from broadbase.core.errors import ConfigError
from broadbase.evaluate.registry import beside, measured
from broadbase.run.run import Run
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import base_at


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
    show(rows, [*columns, "low", "high"], as_json, "held out, with 95 % intervals")
