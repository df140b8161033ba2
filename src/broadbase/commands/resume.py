"""The command `resume`."""

from __future__ import annotations

from broadbase.commands import work
from broadbase.commands.options import Json, RunFolder, Set


def resume(folder: RunFolder, settings: Set = None, as_json: Json = False) -> None:
    """Continue a run that was stopped, from its newest good checkpoint.

    With --set train.steps=N a finished run goes on, at the learning rate that a schedule of N steps
    has there. The learning rate, its schedule, the weight decay and the clipping may change too;
    `metrics.jsonl` records it.
    """
    work.train.resume(folder, settings or (), as_json)
