"""The command `pretrain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import (
    Data,
    Depth,
    Device,
    Family,
    FieldName,
    InitFrom,
    Json,
    Pattern,
    RecipeName,
    Set,
)
from broadbase.core.extras import require_extra


def pretrain(
    recipe: RecipeName,
    data: Data = None,
    depth: Depth = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. [by depth]")] = None,
    context: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens in a row of text: the context length. [by recipe]"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows in a step. [by depth]")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="The folder of prepared data to use, or to make.")
    ] = None,
    field: FieldName = None,
    pattern: Pattern = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run. [runs/RECIPE-N]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The seed of all randomness. [0]")] = None,
    device: Device = "auto",
    init_from: InitFrom = None,
    family: Family = None,
    settings: Set = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the config as YAML, and train nothing.")
    ] = False,
    studio: Annotated[
        bool, typer.Option("--studio", help="Start local pages that show the run, and train on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a base on raw data, without labels, from scratch or from another base."""
    changes = [*(settings or [])]
    changes += [f"machine.device={device}"] if device != "auto" else []
    changes += [f"seed={seed}"] if seed is not None else []
    changes += [f"data.store={json.dumps(str(store))}"] if store else []
    if studio:
        require_extra("fastapi", "serve", "the studio")
    work.train.pretrain(
        recipe,
        data,
        depth,
        store,
        out,
        print_config,
        as_json,
        studio,
        changes=changes,
        field=field,
        pattern=pattern,
        init_from=init_from,
        family=family,
        steps=steps,
        context=context,
        batch_size=batch_size,
    )
