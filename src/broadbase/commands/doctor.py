"""The command `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json


def doctor(
    as_json: Json = False,
    again: Annotated[bool, typer.Option(help="Measure this machine again.")] = False,
) -> None:
    """Show what this machine has, what would be chosen on it, and what each choice is worth."""
    work.doctor.doctor(again, as_json)
