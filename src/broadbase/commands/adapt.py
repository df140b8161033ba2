"""The command `adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.adapt.method import Method
from broadbase.commands import work
from broadbase.commands.options import Json, ModelFolder, OneData
from broadbase.core.errors import ConfigError


def adapt(
    model: ModelFolder,
    data: OneData,
    modality: Annotated[str | None, typer.Option(help="The modality of the records.")] = None,
    method: Annotated[Method, typer.Option(help="How to adapt.")] = Method.probe,
    train_size: Annotated[int, typer.Option(min=2, help="Labelled records to learn from.")] = 100,
    test_size: Annotated[int, typer.Option(min=2, help="Labelled records to test on.")] = 500,
    splits: Annotated[int, typer.Option(min=2, help="Splits, each with its own random init.")] = 5,
    field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    label: Annotated[str, typer.Option(help="The field that holds the label.")] = "label",
    regression: Annotated[bool, typer.Option(help="Labels are numbers to predict (R2).")] = False,
    per_token: Annotated[bool, typer.Option(help="Labels have a letter for each place.")] = False,
    macro: Annotated[bool, typer.Option(help="Score by macro-F1, every class alike.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Of fine-tuning: steps, batch, lr, weight_decay."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep the fine-tuned model.")] = None,
    as_json: Json = False,
) -> None:
    """Adapt a base to a labelled task, compared with its random init.

    It reads 1,024 positions of a record at most.
    """
    if regression and (per_token or macro):
        raise ConfigError(
            f"{'--per-token' if per_token else '--macro'} is for classes, not --regression"
        )
    work.adapt.adapt(
        model,
        data,
        modality,
        method,
        train_size=train_size,
        test_size=test_size,
        splits=splits,
        field=field,
        label=label,
        regression=regression,
        per_token=per_token,
        macro=macro,
        settings=settings or (),
        out=out,
        as_json=as_json,
    )
