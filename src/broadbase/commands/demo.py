"""The command `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work


def demo(
    out: Annotated[Path | None, typer.Option(help="The demo's folder [runs/demo-N].")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the steps: a smoke test.")] = False,
    full: Annotated[bool, typer.Option(help="Three seeds, and fine-tuning: an hour.")] = False,
) -> None:
    """Show the whole idea on real data in minutes: pretrain, adapt, generate, report."""
    work.demo.demo(out, quick, full)
