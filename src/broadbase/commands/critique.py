"""The command `critique`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import ModelFolder


def critique(
    model: ModelFolder,
    prompts: Annotated[Path, typer.Option(help="A file of prompts, one per line.")],
    principles: Annotated[
        Path,
        typer.Option(help="JSON lines of `critique`, `revision` and `question`, one a principle."),
    ],
    out: Annotated[Path, typer.Option(help="The file of preferences to write: JSON lines.")],
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="How many tokens an answer has at most.")
    ] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of sampling; 0 takes the most likely token.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="The seed of sampling.")] = 0,
) -> None:
    """Let a base of recipe `chat` criticise and revise its own answers, as preferences.

    It draws an answer to each prompt, a critique by a principle, and a revision, and says by its
    own likelihoods which is better. `pretrain preference` learns from the file.
    """
    sampling = {"temperature": temperature, "seed": seed}
    work.critique.critique(model, prompts, principles, out, max_new_tokens, sampling)
