"""The work of `evaluate`: a base on held-out data, compared with baselines."""

from __future__ import annotations

from pathlib import Path

from broadbase.commands.options import show
from broadbase.evaluate.registry import beside, measured
from broadbase.run.run import Run
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import base_at


def evaluate(folder: Path, against: Path | None, data: str | None, as_json: bool) -> None:
    """Print the measures of a run's base: against baselines, another base, or on a task."""
    MachineConfig().prepare()
    run, base = Run.open(folder), base_at(folder)
    if against is None:
        found = measured(run, base, data)
    else:
        found = beside(run, base, base_at(against), against.name)
    rows = [row.row() for row in found]
    columns = ("source", "measure", "baseline", "items", "base", "other", "difference")
    show(rows, [*columns, "low", "high"], as_json, "held out, with 95 % intervals")
