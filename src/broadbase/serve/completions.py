"""/v1/completions: a base continues a prompt, or fills in what is missing in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.inference.autoregressive import STRIDE
from broadbase.inference.base import Base
from broadbase.inference.batching import Batch, NewToken
from broadbase.inference.likelihood import prompt_logprobs
from broadbase.inference.request import GenerateRequest, Prompt
from broadbase.serve.bodies import CompletionBody
from broadbase.serve.drawing import (
    Counted,
    completions,
    head,
    nothing,
    one_by_one,
    respond,
    sampling,
    side_by_side,
)
from broadbase.serve.lane import Answers
from broadbase.serve.prompts import (
    check_fits,
    check_generates,
    context_of,
    filling_ids,
    prompt_ids,
)
from broadbase.serve.service import Service, unless_gone
from broadbase.serve.spelling import TokenLog, Top, note

NEW = 16  # tokens of a request that does not say how many


def completing(service: Service) -> APIRouter:
    """Return the route of completions."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=None)
    async def complete(body: CompletionBody, request: Request) -> Response:
        """Continue prompts."""
        name, adapter = service.generator(body.model)
        base = service.base(name)
        check_generates(base, body.model)
        new = NEW if body.max_tokens is None else body.max_tokens
        if not Batch.supports(base, None):
            return await _alone(service, base, body, new, request)
        prompts = await run_in_threadpool(_read, base, body, new, service.settings.context)
        used = Counted(sum(map(len, prompts)))
        service.meters.tokens_in += used.prompt
        service.log_prompt(body.prompt)
        log = None
        if body.echo and body.logprobs is not None:
            must_be_base(adapter)
            job = service.job(_prompt_logs, base, prompts, body.logprobs)
            log = await unless_gone(request, job)
        writer = CompletionWriter(body, base.codec()[1], prompts, log)
        events = nothing(len(prompts) * (body.n or 1))
        if new:
            answers = Answers(completions(body, prompts, new, body.logprobs, adapter))
            service.draw(name, base, answers)
            events = side_by_side(service, answers, used)
        return await respond(request, body, writer, events, used)

    return router


def _read(base: Base, body: CompletionBody, new: int, most: int) -> list[tuple[int, ...]]:
    """Return the ids of the prompts; ConfigError if one does not fit."""
    if body.suffix is None:
        prompts = [prompt_ids(base, prompt) for prompt in body.prompts]
    else:
        if body.echo:
            raise ConfigError("echo: with a suffix the prompt is in two parts; leave one out")
        prompts = [filling_ids(base, prompt, body.suffix) for prompt in body.prompts]
    context = context_of(base, most)
    for ids in prompts:
        check_fits(ids, new, context)
    return prompts


def must_be_base(adapter: str | None) -> None:
    """Raise ConfigError where log-probabilities of a prompt are requested of an adapter."""
    if adapter is not None:
        raise ConfigError(f"echo: {adapter!r} is an adapter, and gives none for the prompt")


PromptLog = Sequence[tuple[float, Top]]


def _prompt_logs(base: Base, prompts: Sequence[tuple[int, ...]], top: int) -> list[PromptLog]:
    """Return log-probability and likeliest tokens of each id of the prompts but their first."""
    return [prompt_logprobs(base, ids, top) for ids in prompts]


async def _alone(
    service: Service, base: Base, body: CompletionBody, new: int, request: Request
) -> Response:
    """Answer for a base whose answers are drawn one after another."""
    refused = [name for name in ("echo", "logprobs", "suffix", "stream") if getattr(body, name)]
    if refused or not all(isinstance(prompt, str) for prompt in body.prompts) or not new:
        what = refused[0] if refused else "prompt" if new else "max_tokens"
        raise ConfigError(
            f"{what}: this base answers from an encoder or a prefix; it takes texts as prompts and"
            " at least 1 token, without echo, logprobs, suffix and stream"
        )
    chance, n = sampling(body), body.n or 1
    requests = [
        GenerateRequest(
            prompts=(Prompt(value=prompt),),
            max_new_tokens=new,
            stop=body.stops,
            sampling=chance.replace(seed=chance.seed + STRIDE * i),
        )
        for i, prompt in enumerate(prompt for prompt in body.prompts for _ in range(n))
    ]
    service.log_prompt(body.prompt)
    source = base.usage.conditioning.source if base.usage.conditioning else None
    codec = base.codec(source)[1]
    used = Counted(sum(len(codec.encode(prompt).values) for prompt in body.prompts))
    service.meters.tokens_in += used.prompt
    writer = CompletionWriter(body, codec, [()] * len(body.prompts), None)
    return await respond(request, body, writer, one_by_one(service, base, requests, used), used)


class CompletionWriter:
    """Answers in the form of /v1/completions."""

    kinds = ("text_completion", "text_completion")

    def __init__(
        self,
        body: CompletionBody,
        codec: Codec,
        prompts: Sequence[tuple[int, ...]],
        logs: Sequence[PromptLog] | None,
    ) -> None:
        """Take the request, the ids of its prompts, and the log-probabilities to list."""
        self.head, self._listed = head("cmpl", body.model), body.logprobs is not None
        self._codec, self._logs = codec, dict[int, TokenLog]()
        self._before = dict[int, str]()  # the prompts that answers still begin with
        n = body.n or 1
        for number in range(len(prompts) * n):
            ids, prompt = prompts[number // n], body.prompts[number // n]
            log = self._logs[number] = TokenLog(codec)
            if body.echo:
                self._before[number] = prompt if isinstance(prompt, str) else _text(codec, ids)
            if body.echo and logs is not None:
                log.add(ids[0], None, ())
                for identity, (logprob, top) in zip(ids[1:], logs[number // n], strict=True):
                    log.add(identity, logprob, top)

    def choice(self, number: int, tokens: Sequence[NewToken]) -> dict[str, Any]:
        """Return an answer, or what some tokens add to it."""
        log = self._logs[number]
        if self._listed:
            note(log, tokens)
        return {
            "index": number,
            "text": self._before.pop(number, "") + "".join(token.text for token in tokens),
            "logprobs": log.take() if self._listed else None,
            "finish_reason": tokens[-1].finish,
        }

    def delta(self, number: int, token: NewToken) -> dict[str, Any] | None:
        """Return what a token adds to an answer."""
        choice = self.choice(number, (token,))
        shown = choice["text"] or token.finish or self._listed
        return choice if shown else None


def _text(codec: Codec, ids: Sequence[int]) -> str:
    return str(codec.decode(np.array(ids, dtype=np.int64), (len(ids),)))
