"""What the commands share: the app, options, and how results and messages are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="broadbase",
    help="One foundation model: pretrained on whatever data you have, adapted many times.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
log = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one field of the config.")
]
RecipeName = Annotated[str, typer.Argument(help="A recipe's name, or a config.yaml to repeat.")]
Data = Annotated[str | None, typer.Option(help="Folder, file, URL, sample:NAME, source:FILE.yaml.")]
FieldName = Annotated[str | None, typer.Option("--field", help="Of a table, that holds the text.")]
Like = Annotated[str | None, typer.Option(help="A published family to be one of: vit, t5, ...")]
Start = Annotated[str | None, typer.Option(help="A base to go on with: a run or a model folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


def fail(message: object, code: int) -> None:
    """Say what went wrong and how to mend it, and leave."""
    log.print("error:", style="bold red", end=" ")
    log.print(str(message), markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def fresh(parent: Path, name: str) -> Path:
    """The first of parent/NAME-1, parent/NAME-2, ... that does not exist."""
    numbers = (i for i in range(1, 10_000) if not (parent / f"{name}-{i}").exists())
    return parent / f"{name}-{next(numbers)}"


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, title: str
) -> None:
    """Print rows as a table of `columns`, or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
