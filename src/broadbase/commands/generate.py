"""The command `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import Json, ModelFolder, Weights, not_empty


def generate(
    model: ModelFolder,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to continue, or to answer; may be repeated.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of them, one a line.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture in the prompt, or to describe; repeatable.")
    ] = None,
    audio: Annotated[
        list[Path] | None, typer.Option(help="A sound to transcribe; repeatable.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Which modality; default the first.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most new places (tokens).")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest.")] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Of so many tokens, the likeliest.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the likeliest tokens of this share.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(callback=not_empty, help="End where this text appears.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The source of all chance.")] = 0,
    weights: Annotated[
        Weights, typer.Option(help="int8: faster on a CPU, the perplexity a little higher.")
    ] = Weights.stored,
    out: Annotated[Path, typer.Option(help="Where a picture is written.")] = Path("drawn.png"),
    as_json: Json = False,
) -> None:
    """Continue prompts; a run of a conditional objective answers them (draws what they name)."""
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
        weights=weights,
        out=out,
        as_json=as_json,
    )
