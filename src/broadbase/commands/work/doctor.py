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
