"""The command `sbatch`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.core.terminal import echo
from broadbase.train.slurm import script


def sbatch(
    command: Annotated[list[str], typer.Argument(help="-- pretrain ... --out FOLDER")],
    nodes: Annotated[int, typer.Option(min=1, help="How many machines.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Processes per machine, each with a GPU.")] = 1,
    time: Annotated[str, typer.Option(help="The time limit of the job.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="The partition of Slurm.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Request no GPUs.")] = False,
) -> None:
    """Print a Slurm script that trains on many ranks and is requeued when preempted."""
    echo(script(command, nodes, ranks, time, partition, gpus=not cpu), end="")
