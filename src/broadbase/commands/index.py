"""The command `index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import MODEL, WHERE, Device, Json, Pattern, not_empty

Docs = Annotated[str | None, typer.Argument(help=f"The documents: {WHERE}.", callback=not_empty)]
Out = Annotated[Path, typer.Option(help="The file of the index: a new one, or one to update.")]
BaseFolder = Annotated[
    Path | None, typer.Option("--base", help=f"{MODEL} By default that of the index.")
]
Modality = Annotated[
    str | None, typer.Option(help="The modality of the documents; by default what the base reads.")
]
Field = Annotated[str, typer.Option(help="The field of a table that holds the text.")]
Tokens = Annotated[
    int | None, typer.Option(min=1, help="The most tokens of a passage. [256, or what is read]")
]
Remove = Annotated[
    bool, typer.Option("--remove", help="Remove these documents: a source, a file, or one origin.")
]
Export = Annotated[
    Path | None, typer.Option(help="Write the passages with their vectors to a .parquet file.")
]


def index(
    out: Out,
    docs: Docs = None,
    base: BaseFolder = None,
    modality: Modality = None,
    field: Field = "text",
    pattern: Pattern = None,
    tokens: Tokens = None,
    remove: Remove = False,
    export: Export = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Index documents for `search`: passages with their words and a base's vectors, in one file.

    An index that exists is brought up to date: only new and changed documents are embedded, and
    those of DOCS that are gone leave it. What is removed is overwritten in the file.
    """
    work.index.index(
        out,
        docs,
        base,
        modality,
        field,
        pattern,
        tokens,
        remove=remove,
        export=export,
        device=device,
        as_json=as_json,
    )
