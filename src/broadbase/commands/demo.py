"""The command `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work


def demo(
    out: Annotated[Path | None, typer.Option(help="The folder of the demo. [runs/demo-N]")] = None,
    quick: Annotated[bool, typer.Option(help="Run a tenth of the steps, as a smoke test.")] = False,
    full: Annotated[
        bool, typer.Option(help="Run three seeds and fine-tuning, about an hour.")
    ] = False,
) -> None:
    """Show the idea on real data in minutes: pretrain, adapt, generate, report."""
    work.demo.demo(out, quick, full)
