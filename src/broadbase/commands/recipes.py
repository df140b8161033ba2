"""The command `recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Depth, Json, show
from broadbase.recipes.listing import expected, summaries


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe, to print its config.")] = None,
    depth: Depth = None,
    as_json: Json = False,
) -> None:
    """List the recipes; with a name, print every setting of that recipe as a config.yaml."""
    if name is not None:
        work.recipes.printed(name, depth, as_json)
        return
    measured = expected()
    rows = [
        {"recipe": recipe, "what": summary, **measured.get(recipe, {})}
        for recipe, summary in summaries().items()
    ]
    columns = ["recipe", "what", "modality", "objective", "seconds", "result"]
    show(rows, columns, as_json, "broadbase pretrain RECIPE --data PATH --depth 4")
