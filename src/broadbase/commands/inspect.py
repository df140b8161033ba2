"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json


def inspect(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, or of prepared data.")],
    examples: Annotated[
        int, typer.Option(min=0, help="How many records and duplicates to show.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Show what a model reads: mixture, epochs, lengths, duplicates, records of the store."""
    work.inspect.inspect(folder, examples, as_json)
