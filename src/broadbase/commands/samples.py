"""The command `samples`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json


def samples(
    name: Annotated[
        str | None, typer.Argument(help="A sample set to download and look at.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List sample data sets; use one with --data sample:NAME."""
    work.data.samples(name, as_json)
