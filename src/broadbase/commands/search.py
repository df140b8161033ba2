"""The command `search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import MODEL, Device, Json, not_empty

IndexFile = Annotated[Path, typer.Argument(help="The file that `index` wrote.")]
Query = Annotated[
    str,
    typer.Argument(
        callback=not_empty, help="A text, or the path of a file: a text, a picture, a sound."
    ),
]
BaseFolder = Annotated[
    Path | None, typer.Option("--base", help=f"{MODEL} By default that of the index.")
]
Number = Annotated[int, typer.Option("--k", min=1, max=1000, help="How many passages to print.")]
Weight = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="The share of vectors in the score: 1 without words, 0 with."),
]


def search(
    file: IndexFile,
    query: Query,
    base: BaseFolder = None,
    k: Number = 10,
    weight: Weight = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Search an index by words and vectors together, and print passages with source and span."""
    work.search.search(file, query, base, k, weight, device, as_json)
