"""The command `generate`: a prompt continued, or told in what a conditional base was taught."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageOps

from broadbase.core.contracts import Reject
from broadbase.core.errors import ConfigError, DataError
from broadbase.data.picture import picture as decoded
from broadbase.model.generate import SamplingConfig
from broadbase.objectives.conditional import GivenConfig
from broadbase.run import Run, RunConfig
from broadbase.weights.folder import base_at


def generate(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    prompt: Annotated[str | None, typer.Option(help="Text to continue, or to answer.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture in the prompt, or to tell of; repeatable.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Which modality; default the first.")] = None,
    places: Annotated[int, typer.Option(min=1, help="The most new places (tokens).")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1)] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End where this text appears.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where a picture is written.")] = Path("drawn.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Continue a prompt; a run of a conditional objective answers it (draws what it names)."""
    tree = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    sampling = SamplingConfig.from_tree(tree)
    config, seen = model / "config.yaml", [opened(file) for file in image or ()]
    if config.exists() and isinstance(RunConfig.read(config).objective, GivenConfig):
        found = answered(Run.open(model), prompt, seen, places, sampling)
    else:
        found = base_at(model).generate(
            prompt,
            inside=seen,
            modality=modality,
            places=places,
            stop=stop or (),
            sampling=sampling,
        )
    if isinstance(found, np.ndarray):
        if out.exists():
            raise ConfigError(f"{out} is there already; name another --out")
        picture(found).save(out)
        found = str(out)
    typer.echo(json.dumps({"prompt": prompt, "continuation": found}) if as_json else found)


def answered(
    run: Run, prompt: str | None, seen: Sequence[Image.Image], places: int, sampling: SamplingConfig
) -> Any:
    """What the base of a conditional run tells after what is given: a text, or a whole picture.

    A picture is given where one is `seen`; what is told of it then begins with `prompt`.
    """
    if len(seen) > 1 or (prompt is None and not seen):
        raise ConfigError(
            "this base tells one thing after another: add --prompt, or one --image if it tells"
            " of pictures"
        )
    config, mixed = run.config.objective, run.config.data.sources
    assert isinstance(config, GivenConfig)
    grid = run.stores[config.told].split("train").grids[0]
    (found,) = base_at(run.folder).answers(
        config.build().prompt,
        [*seen] or [prompt],
        given=mixed[config.given].modality,
        told=mixed[config.told].modality,
        begun=prompt if seen else None,
        places=places,
        grid=tuple(int(n) for n in grid) if len(grid) > 1 else None,
        sampling=sampling,
    )
    return found


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
