"""The command `sbatch`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.core.terminal import echo
from broadbase.train.slurm import script


def sbatch(
    command: Annotated[list[str], typer.Argument(help="-- pretrain ... --out FOLDER")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Processes a node; GPUs, where it has.")] = 1,
    time: Annotated[str, typer.Option(help="The longest a job may take.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Ask for no GPUs.")] = False,
) -> None:
    """Print a Slurm script that trains on many ranks and is requeued when preempted."""
    echo(script(command, nodes, ranks, time, partition, gpus=not cpu), end="")
