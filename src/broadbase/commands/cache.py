"""The command `cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json

Clear = Annotated[bool, typer.Option("--clear", help="Remove them.")]


def cache(clear: Clear = False, as_json: Json = False) -> None:
    """Say how many embeddings are kept for the next command, or remove them."""
    work.cache.show(clear, as_json)
