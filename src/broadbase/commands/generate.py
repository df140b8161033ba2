"""The command `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import (
    BestOf,
    Chat,
    Json,
    ModelFolder,
    RewardModel,
    TopP,
    Weights,
    not_empty,
)


def generate(
    model: ModelFolder,
    prompt: Annotated[
        list[str] | None, typer.Option(help="A text to continue or to answer; repeatable.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts, one per line.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture in the prompt, or to describe; repeatable.")
    ] = None,
    audio: Annotated[
        list[Path] | None, typer.Option(help="A sound to transcribe; repeatable.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="The modality to generate. [the first]")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="How many tokens to generate at most.")
    ] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of sampling; 0 takes the most likely token.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Sample from this many of the most likely tokens.")
    ] = None,
    top_p: TopP = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(callback=not_empty, help="Stop where this text appears; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of sampling.")] = 0,
    chat: Chat = False,
    best_of: BestOf = None,
    reward: RewardModel = None,
    weights: Annotated[
        Weights, typer.Option(help="int8 is faster on a CPU, with a slightly higher perplexity.")
    ] = Weights.stored,
    out: Annotated[Path, typer.Option(help="The file that a picture is written to.")] = Path(
        "drawn.png"
    ),
    as_json: Json = False,
) -> None:
    """Continue or answer prompts; a base of pairs draws a picture of a text, or describes one."""
    work.generate.generate(
        model,
        prompt or (),
        prompts,
        image=image or (),
        audio=audio or (),
        modality=modality,
        max_new_tokens=max_new_tokens,
        sampling={"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed},
        stop=stop or (),
        chat=chat,
        best=(best_of, reward),
        weights=weights,
        out=out,
        as_json=as_json,
    )
