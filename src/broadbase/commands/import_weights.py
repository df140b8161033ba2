"""The command `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json


def import_weights(
    model: Annotated[str, typer.Argument(help="A model folder, or OWNER/NAME on the hub.")],
    to: Annotated[
        Path | None, typer.Option(help="The folder to save it in as a model folder of Broadbase.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Of an adapter of PEFT: the base that it was made for.")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Compare its outputs with those of transformers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read published weights, print what they are, and check that they compute the same.

    An adapter is merged into its base.
    """
    work.exchange.import_weights(model, to, base, check, as_json)
