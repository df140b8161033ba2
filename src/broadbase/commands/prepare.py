"""The command `prepare`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Data, Family, FieldName, Json, Pattern, RecipeName, Set

CORES = os.cpu_count() or 1


def prepare(
    recipe: RecipeName,
    store: Annotated[Path, typer.Option(help="The folder to prepare the data in.")],
    data: Data = None,
    field: FieldName = None,
    pattern: Pattern = None,
    processes: Annotated[int, typer.Option(min=1, help="How many processes to use.")] = CORES,
    executor: Annotated[
        str, typer.Option(help="Where to prepare: here, ray, slurm:PARTITION.")
    ] = "here",
    family: Family = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Clean, deduplicate and encode data into a store; continue where an earlier try stopped."""
    changes = [*(settings or []), f"data.processes={processes}"]
    work.data.prepare(
        recipe,
        data,
        store,
        executor,
        as_json,
        changes=changes,
        field=field,
        pattern=pattern,
        family=family,
    )
