"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import RunFolder


def report(
    folder: RunFolder,
    out: Annotated[Path | None, typer.Option(help="The file to write. [RUN/report.html]")] = None,
) -> None:
    """Write what a run did as one HTML file: curves, baselines, data, config."""
    work.report.report(folder, out)
