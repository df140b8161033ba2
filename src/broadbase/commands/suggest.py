"""The command `suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.adapt import Field, Label, Modality
from broadbase.commands.options import WHERE, Cached, Json, ModelFolder, not_empty

Data = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", callback=not_empty, help=f"Records of which some have a label: {WHERE}."
    ),
]
Unlabelled = Annotated[
    str | None,
    typer.Option(metavar="PATH", callback=not_empty, help="More records, without labels."),
]
Number = Annotated[int, typer.Option(min=1, help="How many records to suggest.")]
Out = Annotated[
    Path | None,
    typer.Option(help="A file for them, with an empty column of labels: .csv, .jsonl, .parquet."),
]


def suggest(
    model: ModelFolder,
    data: Data = None,
    unlabelled: Unlabelled = None,
    modality: Modality = None,
    field: Field = "text",
    label: Label = "label",
    number: Number = 20,
    out: Out = None,
    cache: Cached = True,
    as_json: Json = False,
) -> None:
    """Suggest which unlabelled records to label next, the best first.

    They are those that stand for the most of the others and are unlike what is labelled; no label
    is needed to begin. Records of --data without a label can be suggested, and all of --unlabelled.
    """
    with work.cache.embeddings(cache):
        work.suggest.suggest(
            model, data, unlabelled, modality, field, label, number=number, out=out, as_json=as_json
        )
