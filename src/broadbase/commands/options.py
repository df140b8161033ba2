"""What the commands share: options, and how results and messages are printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from broadbase.core.terminal import Terminal, echo
from broadbase.recipes.listing import names
from broadbase.report.tables import print_table

log = Terminal(stderr=True)


class Weights(StrEnum):
    """The numbers in which weights are used."""

    stored = "stored"
    int8 = "int8"


class Form(StrEnum):
    """The forms in which a base is exported."""

    hf = "hf"
    gguf = "gguf"
    safetensors = "safetensors"
    peft = "peft"


def not_empty(value: Any) -> Any:
    """Return an option's value, and refuse an empty one.

    A shell variable that is not set gives an empty text, which would mean the current folder.
    """
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise typer.BadParameter("it is empty; give a value, or leave the option out")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one field of the config.")
]
RecipeName = Annotated[
    str,
    typer.Argument(
        help="A recipe (`broadbase recipes` lists them), or a config.yaml to repeat.",
        autocompletion=names,
    ),
]
WHERE = "A folder, a file, a URL, sample:NAME or source:FILE.yaml"
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH", callback=not_empty, help=f"{WHERE}. Repeat it to train on a mixture."
    ),
]
Cached = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Keep embeddings on disk for the next command."),
]
OneData = Annotated[str, typer.Option(metavar="PATH", callback=not_empty, help=WHERE)]
Depth = Annotated[
    int | None,
    typer.Option(min=1, help="The size of the model: layers, width and steps grow with it. [4]"),
]
FieldName = Annotated[
    str | None, typer.Option("--field", help="The column of a table that holds the record.")
]
Pattern = Annotated[
    str | None, typer.Option(help="Which files of a folder to read, as '**/*.txt **/*.log'.")
]
Family = Annotated[
    str | None, typer.Option(help="Train a model of a published family: vit, t5, ...")
]
InitFrom = Annotated[
    str | None,
    typer.Option(help="The base to start from: a run, a model folder, or sample:NAME."),
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]
MODEL = "The folder of a run, a model folder, or sample:NAME (`broadbase bases` lists them)."
ModelFolder = Annotated[Path, typer.Argument(help=MODEL)]


TopP = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Sample from the likeliest tokens of this total probability."),
]
Chat = Annotated[bool, typer.Option("--chat", help="Read each prompt as a message; answer it.")]
BestOf = Annotated[
    int | None, typer.Option(min=2, help="Draw this many answers, and keep the best by --reward.")
]
RewardModel = Annotated[
    Path | None, typer.Option(help="The base of recipe `reward` that chooses the best answer.")
]


def fresh(parent: Path, name: str) -> Path:
    """Return the first of parent/NAME-1, parent/NAME-2, ... that does not exist."""
    numbers = (i for i in range(1, 10_000) if not (parent / f"{name}-{i}").exists())
    return parent / f"{name}-{next(numbers)}"


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, title: str
) -> None:
    """Print rows as a table of `columns`, or as JSON."""
    if as_json:
        echo(json.dumps(rows))
    else:
        print_table(rows, columns, title)
