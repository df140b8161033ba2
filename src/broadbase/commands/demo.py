"""The command `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work


def demo(
    out: Annotated[Path | None, typer.Option(help="The folder of the demo. [runs/demo-N]")] = None,
    quick: Annotated[bool, typer.Option(help="Run a part of it, as a smoke test.")] = False,
) -> None:
    """Show the idea on real data in minutes: make a base, borrow one, use it."""
    work.demo.demo(out, quick)
