"""The command `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json


def import_weights(
    place: Annotated[str, typer.Argument(help="A model folder, or OWNER/NAME on the hub.")],
    to: Annotated[Path | None, typer.Option(help="Where to write it as our model folder.")] = None,
    check: Annotated[bool, typer.Option(help="Compare with transformers.")] = False,
    as_json: Json = False,
) -> None:
    """Read published weights: say what they are, and whether they compute what they should."""
    work.exchange.import_weights(place, to, check, as_json)
