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
    method: Annotated[Method, typer.Option(help="The method.")] = Method.probe,
    train_size: Annotated[int, typer.Option(min=2, help="Labelled records to train on.")] = 100,
    test_size: Annotated[int, typer.Option(min=2, help="Labelled records to test on.")] = 500,
    splits: Annotated[
        int, typer.Option(min=2, help="Random splits, each with its own random init.")
    ] = 5,
    field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    label: Annotated[str, typer.Option(help="The field that holds the label.")] = "label",
    regression: Annotated[bool, typer.Option(help="Predict numbers, scored by R2.")] = False,
    per_token: Annotated[bool, typer.Option(help="A label has a letter for each token.")] = False,
    macro: Annotated[
        bool, typer.Option(help="Score by macro-F1: every class counts alike.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting of fine-tuning: steps, batch, lr, weight_decay.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to save the fine-tuned model in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Adapt a base to a labelled task, compared with its random init.

    At most 1,024 tokens of a record are read.
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
