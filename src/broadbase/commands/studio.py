"""The command `studio`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Device
from broadbase.core.extras import require_extra


def studio(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    base: Annotated[
        list[str] | None,
        typer.Option(help="Another base to try: a run, a model folder, sample:NAME; repeatable."),
    ] = None,
    port: Annotated[int, typer.Option(help="The port to listen at; 0: a free one.")] = 8765,
    device: Device = "cpu",
) -> None:
    """Open local pages on your runs: watch them, try a base, map data, adapt, compare."""
    require_extra("fastapi", "serve", "the studio")
    work.studio.studio(folder, base or (), port=port, device=device)
