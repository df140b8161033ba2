"""The command `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json, RunFolder
from broadbase.core.errors import ConfigError


def evaluate(
    folder: RunFolder,
    baseline: Annotated[
        Path | None, typer.Option(help="Compare with this base, of the same kind.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A task to measure on instead: sample:humaneval, ...")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a base on held-out data against baselines: bits per byte, accuracy, ..."""
    if baseline is not None and data is not None:
        raise ConfigError("--baseline compares held-out data; leave out --data")
    work.evaluate.evaluate(folder, baseline, data, as_json)
