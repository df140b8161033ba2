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
from broadbase.inference.base import Base
from broadbase.inference.request import GenerateRequest, combine
from broadbase.inference.rewards import best_of, messages_of
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
    chat: bool,
    best: tuple[int | None, Path | None],
    weights: Weights,
    out: Path,
    as_json: bool,
) -> None:
    """Print what a base generates of each prompt, or write it if it is an image.

    With `chat` a prompt is a message, and `best` may have how many answers are drawn to it and the
    base that chooses one.
    """
    sampled = SamplingConfig.from_tree(sampling)
    texts: Sequence[Any] = read_prompts(prompt, prompts)
    judge = _judge(*best, chat=chat, texts=texts)
    attachments = [*map(read_audio, audio), *map(read_image, image)]
    base = load(model)
    base = base.eight_bit() if weights is Weights.int8 else base
    if judge is not None:
        count, folder = judge
        options = {"max_new_tokens": max_new_tokens, "stop": stop, "sampling": sampled}
        answers = best_of(base, load(folder), must_chat(base, texts), count, **options)
        show(texts, [each.answer for each in answers], out, as_json)
        return
    if chat:
        texts = [messages_of(text) for text in must_chat(base, texts)]
    request = GenerateRequest(
        prompts=combine(texts, attachments, base.usage),
        modality=modality,
        max_new_tokens=max_new_tokens,
        stop=tuple(stop),
        sampling=sampled,
    )
    outputs = base.generate_request(request)
    show([prompt.value for prompt in request.prompts], outputs, out, as_json)


def _judge(
    count: int | None, folder: Path | None, *, chat: bool, texts: Sequence[Any]
) -> tuple[int, Path] | None:
    """Return how many answers are drawn and what chooses one; ConfigError if a part is missing."""
    if count is None and folder is None:
        return None
    if count is None or folder is None or not chat or not texts:
        raise ConfigError(
            "--best-of N draws N answers to each --prompt and keeps the best by --reward RUN; give"
            " all of --chat, --prompt, --best-of and --reward"
        )
    return count, folder


def must_chat(base: Base, texts: Sequence[Any]) -> Sequence[Any]:
    """Return the texts; ConfigError if there is none, or the base has learned no conversations."""
    space, codec = base.codec()
    if not texts:
        raise ConfigError("--chat answers messages; add --prompt or --prompts")
    if not base.config.modalities[space].weighted:
        with_template = "; its template is used by `broadbase serve`" if codec.chat else ""
        raise ConfigError(
            f"--chat: this base reads {space!r} as texts, not as conversations{with_template};"
            " `broadbase pretrain chat --init-from RUN` teaches it to answer"
        )
    return texts


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
