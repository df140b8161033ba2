"""The command `generate`: a prompt continued, or told in what a conditional base was taught."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageOps

from broadbase.commands.options import app
from broadbase.core.contracts import Reject
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.terminal import echo
from broadbase.data.picture import picture as decoded
from broadbase.model.base import Base
from broadbase.model.generate import SamplingConfig
from broadbase.objectives.conditional import GivenConfig
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import base_at


class Weights(StrEnum):
    """In which numbers the weights are used."""

    stored = "stored"
    int8 = "int8"


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to continue, or to answer; may be repeated.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of them, one a line.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture in the prompt, or to tell of; repeatable.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Which modality; default the first.")] = None,
    places: Annotated[int, typer.Option(min=1, help="The most new places (tokens).")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest.")] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Of so many tokens, the likeliest.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the likeliest tokens of this share.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End where this text appears.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The source of all chance.")] = 0,
    weights: Annotated[
        Weights, typer.Option(help="int8: faster on a CPU, the perplexity a little higher.")
    ] = Weights.stored,
    out: Annotated[Path, typer.Option(help="Where a picture is written.")] = Path("drawn.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print each result as JSON.")] = False,
) -> None:
    """Continue prompts; a run of a conditional objective answers them (draws what they name)."""
    tree = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    sampling = SamplingConfig.from_tree(tree)
    asked, seen = asked_for(prompt or [], prompts), [opened(file) for file in image or ()]
    base, config = base_at(model), model / "config.yaml"
    base = base.eight_bit() if weights is Weights.int8 else base
    if config.exists() and isinstance(RunConfig.read(config).objective, GivenConfig):
        found = answered(Run.open(model), base, asked, seen, places, sampling)
    else:
        found = base.continuations(
            asked,
            inside=[seen] * len(asked),
            modality=modality,
            places=places,
            stop=stop or (),
            sampling=sampling,
        )
    for i, (given, told) in enumerate(zip(asked, found, strict=True)):
        if isinstance(told, np.ndarray):
            told = written(told, out if len(found) == 1 else out.with_stem(f"{out.stem}-{i}"))
        echo(json.dumps({"prompt": given, "continuation": told}) if as_json else told)


def asked_for(told: list[str], file: Path | None) -> list[str | None]:
    """The prompts of the command and of a file; where there are none, one of nothing."""
    if file is None:
        return [*told] or [None]
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}; name a text file") from None
    if not lines:
        raise DataError(f"{file} holds no prompt: write one a line")
    return [*told, *lines]


def answered(
    run: Run,
    base: Base,
    asked: Sequence[str | None],
    seen: Sequence[Image.Image],
    places: int,
    sampling: SamplingConfig,
) -> list[Any]:
    """What the base of a conditional run tells after what is given: texts, or whole pictures.

    A picture is given where one is `seen`; what is told of it then begins with each prompt.
    """
    if len(seen) > 1 or (None in asked and not seen):
        raise ConfigError(
            "this base tells one thing after another: add --prompt, or one --image if it tells"
            " of pictures"
        )
    config, mixed = run.config.objective, run.config.data.sources
    assert isinstance(config, GivenConfig)
    grid = run.stores[config.told].split("train").grids[0]
    tell = partial(
        base.answers,
        config.build().prompt,
        given=mixed[config.given].modality,
        told=mixed[config.told].modality,
        places=places,
        grid=tuple(int(n) for n in grid) if len(grid) > 1 else None,
        sampling=sampling,
    )
    if seen:
        return [told for prompt in asked for told in tell(seen, begun=prompt)]
    return tell(asked)


def written(pixels: np.ndarray[Any, Any], out: Path) -> str:
    """Where a picture was written; ConfigError where there is a file."""
    if out.exists():
        raise ConfigError(f"{out} is there already; name another --out")
    picture(pixels).save(out)
    return str(out)


def opened(file: Path) -> Image.Image:
    """The picture in a file, the right way up; DataError names the file and what is wrong."""
    try:
        with file.open("rb") as opened:
            found = decoded(str(file), opened)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
    if isinstance(found, Reject):
        raise DataError(f"{file}: {found.reason}")
    return ImageOps.exif_transpose(found.raw)


def picture(pixels: np.ndarray[Any, Any]) -> Image.Image:
    """An array [H,W,C] of [0, 1] as a picture of grey or of colours; ConfigError of others."""
    if pixels.ndim != 3:
        raise ConfigError(
            f"only texts and pictures are written, and this base told an array {pixels.shape};"
            " in Python, Base.answers gives it"
        )
    shown = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown[..., :3])
