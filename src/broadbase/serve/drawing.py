"""Answers of a base as a stream of new tokens, whether it draws them side by side or alone."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from broadbase.core.errors import BroadbaseError
from broadbase.inference.autoregressive import STRIDE, SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.batching import Completion, NewToken
from broadbase.inference.request import GenerateRequest
from broadbase.serve.bodies import Drawing
from broadbase.serve.guard import error_body
from broadbase.serve.lane import Answers
from broadbase.serve.service import Service, unless_gone

SEEDS = 2**31  # of requests without a seed
MOST_ANSWERS = 128  # of a request

Events = AsyncIterator[tuple[int, NewToken]]


@dataclass
class Counted:
    """What a request has used."""

    prompt: int
    drawn: int = 0

    def tree(self) -> dict[str, int]:
        """Return the field `usage` of an answer."""
        total = self.prompt + self.drawn
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.drawn,
            "total_tokens": total,
        }


def sampling(body: Drawing) -> SamplingConfig:
    """Return how the first answer is sampled; without a seed in the request, from a new one."""
    return SamplingConfig(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        seed=secrets.randbelow(SEEDS) if body.seed is None else body.seed,
    )


def completions(
    body: Drawing,
    prompts: Sequence[tuple[int, ...]],
    new: int,
    logprobs: int | None,
    adapter: str | None = None,
) -> list[Completion]:
    """Return what is to be drawn, n answers of each prompt: answer i by seed + 1,000,003 i."""
    chance, n = sampling(body), body.n or 1
    if len(prompts) * n > MOST_ANSWERS:
        raise HTTPException(
            400, f"a request has at most {MOST_ANSWERS} answers, not {len(prompts) * n}"
        )
    return [
        Completion(
            prompt=ids,
            max_new_tokens=new,
            sampling=chance.replace(seed=chance.seed + STRIDE * i),
            stop=body.stops,
            logprobs=logprobs,
            adapter=adapter,
        )
        for i, ids in enumerate(ids for ids in prompts for _ in range(n))
    ]


async def side_by_side(service: Service, answers: Answers, used: Counted) -> Events:
    """Yield the new tokens of answers that are drawn in one batch with those of other clients.

    HTTPException 504 when the time of a request is over.
    """
    began, waiting = time.monotonic(), set(range(len(answers.completions)))
    limit = service.settings.seconds
    try:
        async for number, token in answers.tokens(limit):
            used.drawn += 1
            service.meters.tokens_out += 1
            if number in waiting:
                waiting.remove(number)
                service.meters.first_token(time.monotonic() - began)
            yield number, token
    except TimeoutError:
        raise HTTPException(504, f"the answer took more than {limit:g} s; ask for less") from None
    finally:
        answers.leave()


async def one_by_one(
    service: Service, base: Base, requests: Sequence[GenerateRequest], used: Counted
) -> Events:
    """Yield each answer as one token, for bases that do not draw side by side.

    Its tokens are counted by encoding it again.
    """
    codec = base.codec(base.usage.conditioning.target if base.usage.conditioning else None)[1]
    for number, request in enumerate(requests):
        (text,) = await service.job(base.generate_request, request)
        count = len(codec.encode(text).values)
        used.drawn += count
        service.meters.tokens_out += count
        yield number, text_alone("length" if count >= request.max_new_tokens else "stop", text)


async def nothing(count: int) -> Events:
    """Yield the end of `count` answers of no token."""
    for number in range(count):
        yield number, text_alone("length")


def text_alone(finish: Literal["stop", "length"], text: str = "") -> NewToken:
    """Return a text that is no one token."""
    return NewToken(-1, text, finish=finish)


class Writer(Protocol):
    """The form of an answer."""

    @property
    def head(self) -> Mapping[str, Any]:
        """Id, time and model of the answer."""
        ...

    @property
    def kinds(self) -> tuple[str, str]:
        """What an answer is called, and a part of a stream."""
        ...

    def choice(self, number: int, tokens: Sequence[NewToken]) -> dict[str, Any]:
        """Return an answer of these tokens."""
        ...

    def delta(self, number: int, token: NewToken) -> dict[str, Any] | None:
        """Return what a token adds to an answer; None for nothing."""
        ...


def head(prefix: str, model: str) -> dict[str, Any]:
    """Return id, time and model of an answer."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


async def respond(
    request: Request, body: Drawing, writer: Writer, events: Events, used: Counted
) -> Response:
    """Return the answers in one piece, or as server-sent events, one for each token.

    Errors before the first token have their status; later ones are the last event of the stream.
    """
    if not body.stream:
        answers: dict[int, list[NewToken]] = {}

        async def collect() -> None:
            async with contextlib.aclosing(events):  # type: ignore[type-var]
                async for number, token in events:
                    answers.setdefault(number, []).append(token)

        await unless_gone(request, collect())
        choices = [writer.choice(number, answers[number]) for number in sorted(answers)]
        kind = {"object": writer.kinds[0]}
        return JSONResponse({**writer.head, **kind, "choices": choices, "usage": used.tree()})
    first = await unless_gone(request, anext(events))
    usage = body.stream_options is not None and body.stream_options.include_usage is True
    return Stream(_parts(writer, first, events, used if usage else None), events)


class Stream(StreamingResponse):
    """Server-sent events; the tokens' iterator is closed whatever becomes of the client."""

    def __init__(self, parts: AsyncIterator[str], events: Any) -> None:
        """Take the events as text, and the iterator behind them."""
        super().__init__(parts, media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-store"
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _parts(
    writer: Writer, first: tuple[int, NewToken], events: Events, used: Counted | None
) -> AsyncIterator[str]:
    fixed = {**writer.head, "object": writer.kinds[1]}
    more = {} if used is None else {"usage": None}
    try:
        if (delta := writer.delta(*first)) is not None:
            yield event({**fixed, "choices": [delta], **more})
        async for number, token in events:
            if (delta := writer.delta(number, token)) is not None:
                yield event({**fixed, "choices": [delta], **more})
    except HTTPException as error:
        yield event(error_body(error.detail, error.status_code))
        return
    except BroadbaseError as error:
        yield event(error_body(str(error), 400))
        return
    if used is not None:
        yield event({**fixed, "choices": [], "usage": used.tree()})
    yield "data: [DONE]\n\n"


def event(tree: Mapping[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(tree)}\n\n"
