"""The work of `generate`: what a base makes of prompts, printed or written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from broadbase.commands.options import Weights, log
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Reject
from broadbase.core.terminal import echo, raw
from broadbase.core.trees import brief
from broadbase.data.sources.pictures import picture
from broadbase.data.sources.sound import AudioFilesConfig
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.request import GenerateRequest, combine
from broadbase.modalities.shown import as_image
from broadbase.weights.folder import load


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
    """Print what a base generates of each prompt, or write it if it is an image."""
    sampled = SamplingConfig.from_tree(sampling)
    texts = read_prompts(prompt, prompts)
    attachments = [*map(read_audio, audio), *map(read_image, image)]
    base = load(model)
    base = base.eight_bit() if weights is Weights.int8 else base
    request = GenerateRequest(
        prompts=combine(texts, attachments, base.usage),
        modality=modality,
        max_new_tokens=max_new_tokens,
        stop=tuple(stop),
        sampling=sampled,
    )
    outputs = base.generate_request(request)
    show([prompt.value for prompt in request.prompts], outputs, out, as_json)


def show(prompts: Sequence[Any], outputs: Sequence[Any], out: Path, as_json: bool) -> None:
    """Print outputs, and the prompt of each if there are several; write images."""
    for i, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        if isinstance(output, np.ndarray):
            file = out if len(outputs) == 1 else out.with_stem(f"{out.stem}-{i}")
            output = write_image(output, file)
        if as_json:
            echo(json.dumps({"prompt": prompt, "continuation": output}))
        else:
            if len(outputs) > 1:
                log.say(f"{'' if i == 0 else chr(10)}{i + 1}/{len(outputs)}  {brief(prompt)}")
            raw(output)


def read_prompts(texts: Sequence[str], file: Path | None) -> list[str]:
    """Return the prompts of the command line and of a file, one a line.

    DataError if the file cannot be read or holds none.
    """
    if file is None:
        return [*texts]
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; name a text file") from None
    lines = [line for line in text.split("\n") if line]  # read_text makes one of CRLF
    if not lines:
        raise DataError(f"{file} holds no prompt: write one a line")
    return [*texts, *lines]


def read_image(file: Path) -> Image.Image:
    """Return the image in a file, the right way up; DataError if there is none."""
    try:
        with file.open("rb") as opened:
            record = picture(str(file), opened)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
    if isinstance(record, Reject):
        raise DataError(f"{file}: {record.reason}")
    return ImageOps.exif_transpose(record.raw)


def read_audio(file: Path) -> Any:
    """Return the sound in a file; DataError if there is none."""
    (record,) = AudioFilesConfig(path=str(file)).records()
    if isinstance(record, Reject):
        raise DataError(f"{file}: {record.reason}")
    return record.raw


def write_image(pixels: np.ndarray[Any, Any], out: Path) -> str:
    """Write an image and return its path; ConfigError if the file is there."""
    if out.exists():
        raise ConfigError(f"{out} is there already; name another --out")
    as_image(pixels).save(out)
    return str(out)
