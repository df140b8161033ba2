"""The command `remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work


def remove(
    store: Annotated[Path, typer.Argument(help="A folder of prepared data.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of documents, as `inspect` shows them.")],
) -> None:
    """Remove documents, and their duplicates, from prepared data for good."""
    work.data.remove(store, ids)
