"""The command `export`."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Form, ModelFolder
from broadbase.core.errors import ConfigError


def export(
    model: ModelFolder,
    form: Annotated[Form, typer.Option("--to", help="The format.")],
    out: Annotated[Path, typer.Option(help="The folder or file to write.")],
    shard: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="For hf: the largest size of a file, in GB. [5, or as imported]"
        ),
    ] = None,
) -> None:
    """Write a base for transformers, for llama.cpp (GGUF), or as bare tensors.

    Of an adapted base it is the trained one, its adapters merged; --to peft writes these alone.
    """
    if shard is not None and not 0 < shard < inf:
        raise ConfigError(f"--shard {shard} must be a size in GB above 0")
    work.exchange.export(model, form, out, shard)
