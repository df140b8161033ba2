"""The command `doubts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.adapt import (
    Group,
    KindName,
    Modality,
    PerToken,
    Regression,
    Second,
    Settings,
)
from broadbase.commands.options import Cached, Json, OneData

Folder = Annotated[Path, typer.Argument(help="A base, or the folder that `adapt --out` wrote.")]
Method = Annotated[
    str | None,
    typer.Option(help="The method that judges labels; by default probe, or that of the folder."),
]
Field = Annotated[
    str | None,
    typer.Option(help="The field that holds the text; by default `text`, or as adapted."),
]
Label = Annotated[
    str | None,
    typer.Option(help="The field that holds the label; by default `label`, or as adapted."),
]
Number = Annotated[int, typer.Option(min=1, help="How many labels to print.")]
Out = Annotated[Path | None, typer.Option(help="A file for all labels: .csv, .jsonl or .parquet.")]


def doubts(
    model: Folder,
    data: OneData,
    method: Method = None,
    modality: Modality = None,
    field: Field = None,
    second: Second = None,
    label: Label = None,
    group: Group = None,
    kind: KindName = None,
    regression: Regression = False,
    per_token: PerToken = False,
    settings: Settings = None,
    number: Number = 20,
    out: Out = None,
    cache: Cached = True,
    as_json: Json = False,
) -> None:
    """List the labels that a base disputes, the most doubtful first.

    Each is judged by models that were fitted without it. `confidence` is the probability of the
    label; of a number, the share of records that are predicted no better.
    """
    named = work.labelled_data.kind_named(
        kind, regression=regression, per_token=per_token, macro=False
    )
    with work.cache.embeddings(cache):
        work.doubts.doubts(
            model,
            {"data": data, "field": field, "second": second, "label": label, "group": group},
            modality,
            method,
            named,
            settings=settings or (),
            number=number,
            out=out,
            as_json=as_json,
        )
