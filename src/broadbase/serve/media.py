"""/v1/audio/transcriptions and /v1/images/generations, for bases that hear and that draw."""

from __future__ import annotations

import base64
import io
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response

from broadbase.core.errors import ConfigError
from broadbase.inference.autoregressive import AutoregressiveConfig, SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.conditioning import EncoderConditioningConfig
from broadbase.inference.request import GenerateRequest, Prompt
from broadbase.modalities.shown import as_image
from broadbase.serve.bodies import ImageBody
from broadbase.serve.drawing import SEEDS
from broadbase.serve.prompts import writes_text
from broadbase.serve.records import sound
from broadbase.serve.service import Service, unless_gone

TEXT_TOKENS, PICTURE_TOKENS = 224, 4096  # that are drawn at most; 224 are Whisper's half
TASK_TOKENS = 8  # of the positions of a text, for its start and the task
SOUNDS, PICTURES = ("audio", "spectrum"), ("codes", "image")  # kinds of modalities


def media(service: Service) -> APIRouter:
    """Return the routes of sounds and pictures."""
    router = APIRouter()

    @router.post("/v1/audio/transcriptions", response_model=None)
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form(max_length=1000)],
        language: Annotated[str | None, Form(max_length=20)] = None,
        temperature: Annotated[float, Form(ge=0, le=100, allow_inf_nan=False)] = 0.0,
        response_format: Annotated[Literal["json", "text"], Form()] = "json",
    ) -> Response | dict[str, str]:
        """Write what is said in a sound."""
        form = await request.form()
        fields = ("file", "model", "language", "temperature", "response_format")
        if other := [name for name in form if name not in fields]:
            raise ConfigError(f"{other[0]}: it is not supported; leave it out")
        base = hearing(service.base(model), model)
        task = task_of(base, language)
        raw = await run_in_threadpool(sound, await file.read(), "file")
        job = service.job(transcription, base, raw, task, temperature)
        text = await unless_gone(request, job)
        return PlainTextResponse(text) if response_format == "text" else {"text": text}

    @router.post("/v1/images/generations", response_model=None)
    async def draw(body: ImageBody, request: Request) -> dict[str, Any]:
        """Draw pictures after a text."""
        base = service.base(body.model)
        check_draws(base, body.model)
        service.log_prompt(body.prompt)
        pictures = await unless_gone(request, service.job(drawings, base, body))
        data = [{"b64_json": _png(picture)} for picture in pictures]
        return {"created": int(time.time()), "data": data}

    return router


def hearing(base: Base, name: str) -> Base:
    """Return a base that writes texts of sounds; ConfigError if it is none.

    One with an encoder of sounds and a decoder of texts, as Whisper, is used as what it is.
    """
    kinds = {space: modality.name for space, modality in base.config.modalities.items()}
    sounds = [space for space, kind in kinds.items() if kind in SOUNDS]
    conditioning = base.usage.conditioning
    if conditioning is not None and conditioning.source in sounds:
        return base
    texts = [space for space in base.codecs if space not in sounds and writes_text(base, space)]
    if not sounds or not texts or base.tower(sounds[0]) == base.tower(texts[0]):
        raise ConfigError(
            f"model: {name!r} does not write what it hears; bases of recipe speech and Whisper do"
        )
    given = EncoderConditioningConfig(
        source=sounds[0],
        target=texts[0],
        encoder=base.tower(sounds[0]),
        decoder=base.tower(texts[0]),
    )
    usage = base.usage.replace(generator=AutoregressiveConfig(), conditioning=given)
    return replace(base, usage=usage)


def transcription(base: Base, raw: Any, begun: str, temperature: float) -> str:
    """Return what a base writes of a sound, greedily at temperature 0."""
    conditioning = base.usage.conditioning
    assert conditioning is not None
    target = conditioning.target
    room = base.config.max_length(base.codec(target)[0]) - TASK_TOKENS
    (text,) = base.generate_request(
        GenerateRequest(
            prompts=(Prompt(value=begun or None, attachments=(raw,)),),
            max_new_tokens=int(min(TEXT_TOKENS, room)),
            sampling=SamplingConfig(temperature=temperature),
        )
    )
    return str(text)


def task_of(base: Base, language: str | None) -> str:
    """Return the tokens that tell Whisper what to do, as far as its vocabulary has them.

    ConfigError if it has no such language.
    """
    conditioning = base.usage.conditioning
    codec = base.codec(conditioning.target if conditioning else None)[1]
    exists = (lambda _: None) if codec.tokenizer is None else codec.tokenizer.token_to_id
    several = exists("<|transcribe|>") is not None and exists("<|de|>") is not None
    spoken = f"<|{language or 'en'}|>"
    if language is not None and (exists(spoken) is None if several else language != "en"):
        raise ConfigError(f"language: this base has no language {language[:60]!r}")
    tokens = [spoken, "<|transcribe|>"] if several else []
    return "".join(t for t in [*tokens, "<|notimestamps|>"] if exists(t) is not None)


def check_draws(base: Base, name: str) -> None:
    """Check that a base draws pictures of texts; ConfigError otherwise."""
    conditioning = base.usage.conditioning
    target = None if conditioning is None else conditioning.target
    if target is None or base.config.modalities[target].name not in PICTURES:
        raise ConfigError(f"model: {name!r} does not draw; bases of recipe draw do")


def drawings(base: Base, body: ImageBody) -> list[Any]:
    """Return n pictures of a text, as `Base.generate_batch` draws them."""
    seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed
    temperature = 1.0 if body.temperature is None else body.temperature
    return base.generate_request(
        GenerateRequest(
            prompts=(Prompt(value=body.prompt),) * (body.n or 1),
            max_new_tokens=PICTURE_TOKENS,
            sampling=SamplingConfig(temperature=temperature, seed=seed),
        )
    )


def _png(pixels: Any) -> str:
    file = io.BytesIO()
    as_image(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
