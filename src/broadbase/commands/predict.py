"""The command `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Cached, Device, Json, OneData

AdaptedFolder = Annotated[Path, typer.Argument(help="The folder that `adapt --out` wrote.")]
Out = Annotated[
    Path | None,
    typer.Option(help="The file to write: .csv, .jsonl or .parquet; by default CSV on stdout."),
]
Field = Annotated[
    str | None, typer.Option(help="The field that holds the text; by default that of `adapt`.")
]
Second = Annotated[
    str | None, typer.Option(help="The field of the second text of a pair, likewise.")
]
Label = Annotated[
    str | None,
    typer.Option(help="The field of labels to score by; by default that of `adapt`, if there."),
]
Key = Annotated[str | None, typer.Option(help="A field to copy into every row, in column `key`.")]


def predict(
    folder: AdaptedFolder,
    data: OneData,
    out: Out = None,
    field: Field = None,
    second: Second = None,
    label: Label = None,
    key: Key = None,
    device: Device = "cpu",
    cache: Cached = True,
    as_json: Json = False,
) -> None:
    """Predict a label, with its probability, for every record of a table or a folder.

    There is a row for each record, in the order of the data; a record that cannot be read has the
    reason in the column `error`. Where records have labels, the score is said at the end.
    """
    columns = {"field": field, "second": second, "label": label, "key": key}
    with work.cache.embeddings(cache):
        work.predict.predict(folder, data, out, **columns, device=device, as_json=as_json)
