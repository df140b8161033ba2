"""The work of `demo`."""

from __future__ import annotations

from pathlib import Path

from broadbase.commands.options import fresh, log
from broadbase.demo.study import demo as study


def demo(out: Path | None, quick: bool) -> None:
    """Run the demo in `out`, or in a new folder of `runs`."""
    study(out or fresh(Path("runs"), "demo"), log, quick)
