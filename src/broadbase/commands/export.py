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
    form: Annotated[Form, typer.Option("--to", help="For whom.")],
    out: Annotated[Path, typer.Option(help="The folder or file to write.")],
    shard: Annotated[
        float | None, typer.Option(min=0.0, help="hf: the most GB of a file [5, or as it came].")
    ] = None,
) -> None:
    """Write a base for others: a folder that transformers opens, GGUF, or its bare tensors."""
    if shard is not None and not 0 < shard < inf:
        raise ConfigError(f"--shard {shard} is no size in GB; give a number above 0")
    work.exchange.export(model, form, out, shard)
