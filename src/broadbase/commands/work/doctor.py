"""The work of `doctor`: this machine, and what `auto` would choose on it."""

from __future__ import annotations

from broadbase.commands.options import show
from broadbase.core.preload import preloads
from broadbase.train.machine import MachineConfig, environment
from broadbase.train.speeds import speeds


def doctor(again: bool, as_json: bool) -> None:
    """Print what this machine has, what is chosen on it, and what each choice is worth.

    `again` measures its speeds anew.
    """
    worth = speeds(again=again).worth()
    machine = environment()
    del machine["speeds"], machine["preloaded"]
    start = {  # without these libraries, or with BROADBASE_PRELOAD=off
        "allocator": "the system's; install libjemalloc2 for less memory",
        "OpenMP": "PyTorch's own; libomp5 may be faster",
        **{use: f"{path} (BROADBASE_PRELOAD=off: not)" for use, path in preloads().items()},
    }
    rows = [{"setting": setting, "value": value} for setting, value in machine.items()]
    for setting, value in {**MachineConfig().resolve().tree(), **start}.items():
        rows.append({"setting": setting, "value": value, "worth": worth.get(setting)})
    show(rows, ["setting", "value", "worth"], as_json, "as `auto` would decide")
