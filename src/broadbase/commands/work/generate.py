"""The work of `generate`: a prompt continued, or told in what a conditional base was taught."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from broadbase.commands.options import Weights, log
from broadbase.core.contracts import Reject
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.terminal import echo, raw
from broadbase.core.trees import brief
from broadbase.data.sources.pictures import picture as decoded
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.objectives.conditional import ConditionalConfig
from broadbase.objectives.denoising import DenoisingConfig
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import base_at


def generate(
    model: Path,
    prompt: Sequence[str],
    prompts: Path | None,
    *,
    image: Sequence[Path],
    audio: Sequence[Path],
    modality: str | None,
    max_new_tokens: int,
    sampling: Mapping[str, Any],
    stop: Sequence[str],
    weights: Weights,
    out: Path,
    as_json: bool,
) -> None:
    """Print what a base generates of each prompt, or write it where it is a picture."""
    draw = SamplingConfig.from_tree(sampling)
    asked = asked_for(prompt, prompts)
    seen, heard = [opened(file) for file in image], [listened(file) for file in audio]
    base, config = base_at(model), model / "config.yaml"
    base = base.eight_bit() if weights is Weights.int8 else base
    objective = RunConfig.read(config).objective if config.exists() else None
    if heard and not isinstance(objective, ConditionalConfig):
        raise ConfigError(f"{model} takes no --audio: a run of recipe speech transcribes sounds")
    if isinstance(objective, ConditionalConfig):
        asked, found = answered(Run.open(model), base, asked, [*heard, *seen], max_new_tokens, draw)
    elif isinstance(objective, DenoisingConfig):
        found = denoised(base, objective, asked, modality, max_new_tokens, draw)
    elif (grid := getattr(base.codec(modality)[1], "grid", None)) is not None:
        if asked != [None]:
            raise ConfigError("a picture is drawn from nothing: leave out --prompt")
        found = [base.generate(modality=modality, grid=grid, sampling=draw)]
    else:
        found = base.generate_batch(
            asked,
            attachments=[seen] * len(asked),
            modality=modality,
            max_new_tokens=max_new_tokens,
            stop=stop,
            sampling=draw,
        )
    shown(asked, found, out, as_json)


def shown(asked: Sequence[Any], found: Sequence[Any], out: Path, as_json: bool) -> None:
    """Print what was generated, and of which prompt where there are several; write pictures."""
    for i, (given, told) in enumerate(zip(asked, found, strict=True)):
        if isinstance(told, np.ndarray):
            told = written(told, out if len(found) == 1 else out.with_stem(f"{out.stem}-{i}"))
        if as_json:
            echo(json.dumps({"prompt": given, "continuation": told}))
        else:
            if len(found) > 1:
                log.say(f"{'' if i == 0 else chr(10)}{i + 1}/{len(found)}  {brief(given)}")
            raw(told)


def asked_for(told: Sequence[str], file: Path | None) -> list[str | None]:
    """The prompts of the command and of a file; where there are none, one of nothing."""
    if file is None:
        return [*told] or [None]
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; name a text file") from None
    lines = [line for line in text.split("\n") if line]  # read_text makes one of CRLF
    if not lines:
        raise DataError(f"{file} holds no prompt: write one a line")
    return [*told, *lines]


def answered(
    run: Run,
    base: Base,
    asked: Sequence[str | None],
    given: Sequence[Any],
    places: int,
    sampling: SamplingConfig,
) -> tuple[list[Any], list[Any]]:
    """What the base of a conditional run says of what is given: of each prompt, or of a picture or
    sound; of one of these, after each prompt. The prompts, and the texts or whole pictures."""
    if None in asked and not given:
        raise ConfigError(
            "this base says something of what it is given: add --prompt, --image or --audio,"
            " whichever it was trained on"
        )
    if len(given) > 1 and [*asked] != [None]:
        raise ConfigError("of several pictures or sounds leave out --prompt, or give one at a time")
    config, mixed = run.config.objective, run.config.data.sources
    assert isinstance(config, ConditionalConfig)
    grid = run.stores[config.target].split("train").grids[0]
    tell = partial(
        base.generate_from,
        config.build().prompt,
        source=mixed[config.source].modality,
        target=mixed[config.target].modality,
        max_new_tokens=places,
        grid=tuple(int(n) for n in grid) if len(grid) > 1 else None,
        sampling=sampling,
    )
    if not given:
        return [*asked], tell(asked)
    found = [told for one in given for begun in asked for told in tell([one], prefix=begun)]
    return [*asked] * len(given), found


def denoised(
    base: Base,
    config: DenoisingConfig,
    asked: Sequence[str | None],
    modality: str | None,
    places: int,
    sampling: SamplingConfig,
) -> list[Any]:
    """What the decoder says of each prompt, which the encoder reads."""
    if None in asked:
        raise ConfigError("this base has an encoder that reads a text first: add --prompt")
    space, codec = base.codec(modality)
    corrupt = base.config.modalities[space].corruption_of(codec)
    ask = partial(config.build().prompt, corrupt=corrupt, ended=codec.end is not None)
    return [
        told
        for prompt in asked
        for told in base.generate_from(
            ask, [prompt], source=space, target=space, max_new_tokens=places, sampling=sampling
        )
    ]


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


def listened(file: Path) -> Any:
    """The sound in a file; DataError names the file and what is wrong."""
    (found,) = AudioFilesConfig(path=str(file)).records()
    if isinstance(found, Reject):
        raise DataError(f"{file}: {found.reason}")
    return found.raw


def picture(pixels: np.ndarray[Any, Any]) -> Image.Image:
    """An array [H,W,C] of [0, 1] as a picture of grey or of colours; ConfigError of others."""
    if pixels.ndim != 3:
        raise ConfigError(
            f"only texts and pictures are written, and this base told an array {pixels.shape};"
            " in Python, Base.answers gives it"
        )
    shown = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown[..., :3])
