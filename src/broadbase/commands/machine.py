"""The command `doctor`: this machine, and what `auto` would choose on it."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.commands.options import Json, app, show
from broadbase.core.preload import preloads
from broadbase.train.machine import MachineConfig, environment
from broadbase.train.speeds import speeds


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
    show(rows, ["what", "found", "worth"], as_json, "as `auto` would decide")
