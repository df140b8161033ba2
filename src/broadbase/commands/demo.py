"""The command `demo`: the whole idea on real data in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands.options import app, fresh, log
from broadbase.demo.study import STEPS
from broadbase.demo.study import demo as run_demo


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="The demo's folder [runs/demo-N].")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the steps: a smoke test.")] = False,
    full: Annotated[bool, typer.Option(help="Three seeds, and fine-tuning: an hour.")] = False,
) -> None:
    """The whole idea on real data in minutes: pretrain, adapt, generate, report."""
    run_demo(out or fresh(Path("runs"), "demo"), log, STEPS // 10 if quick else STEPS, full)
