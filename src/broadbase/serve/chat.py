"""/v1/chat/completions: a chat as the template of the base's folder writes it, continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.batching import Batch, NewToken
from broadbase.modalities.chat_template import ChatTemplate
from broadbase.serve.bodies import ChatBody, Message
from broadbase.serve.drawing import Counted, completions, head, nothing, respond, side_by_side
from broadbase.serve.lane import Answers
from broadbase.serve.prompts import check_fits, check_generates, context_of, encoded
from broadbase.serve.service import Service
from broadbase.serve.spelling import ChatLog, note

MOST_NEW = 1024  # tokens of a request that does not say how many


def chatting(service: Service) -> APIRouter:
    """Return the route of chats."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatBody, request: Request) -> Response:
        """Answer the last message of a chat."""
        name, adapter = service.generator(body.model)
        base = service.base(name)
        template: ChatTemplate | None = base.codec()[1].chat
        check_generates(base, body.model)
        if template is None or not Batch.supports(base, None):
            raise ConfigError(
                f"model: the folder of {body.model!r} has no chat template, so it is not known how"
                " the base writes a chat; /v1/completions continues a text of yours"
            )
        most = service.settings.context
        prompt, new = await run_in_threadpool(_read, base, template, body, most)
        used = Counted(len(prompt))
        service.meters.tokens_in += used.prompt
        service.log_prompt([message.content for message in body.messages])
        writer = ChatWriter(body, base.codec()[1])
        events = nothing(body.n or 1)
        if new:
            listed = (body.top_logprobs or 0) if body.logprobs else None
            answers = Answers(completions(body, [prompt], new, listed, adapter))
            service.draw(name, base, answers)
            events = side_by_side(service, answers, used)
        return await respond(request, body, writer, events, used)

    return router


def _read(
    base: Base, template: ChatTemplate, body: ChatBody, most: int
) -> tuple[tuple[int, ...], int]:
    """Return the ids of a chat, and how many tokens may follow; ConfigError if they do not fit."""
    prompt = encoded(base, template.render([_plain(each) for each in body.messages], prompt=True))
    new = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    context = context_of(base, most)
    if new is None:
        new = max(1, min(context - len(prompt), MOST_NEW))
    check_fits(prompt, new, context)
    return prompt, new


def _plain(message: Message) -> dict[str, Any]:
    """Return a message as a template reads it; parts of text are put together."""
    parts = message.content
    content = parts if isinstance(parts, str) else "".join(part.text for part in parts)
    named = {} if message.name is None else {"name": message.name}
    return {"role": message.role, "content": content, **named}


class ChatWriter:
    """Answers in the form of /v1/chat/completions."""

    kinds = ("chat.completion", "chat.completion.chunk")

    def __init__(self, body: ChatBody, codec: Codec) -> None:
        """Take the request."""
        self.head, self._listed = head("chatcmpl", body.model), bool(body.logprobs)
        self._logs = [ChatLog(codec) for _ in range(body.n or 1)]
        self._begun: set[int] = set()

    def choice(self, number: int, tokens: Sequence[NewToken]) -> dict[str, Any]:
        """Return an answer."""
        text = "".join(token.text for token in tokens)
        message = {"role": "assistant", "content": text, "refusal": None}
        return self._entry(number, tokens, "message", message)

    def delta(self, number: int, token: NewToken) -> dict[str, Any] | None:
        """Return what a token adds to an answer."""
        first = {} if number in self._begun else {"role": "assistant"}
        if not (first or token.text or token.finish or self._listed):
            return None
        self._begun.add(number)
        return self._entry(number, (token,), "delta", {**first, "content": token.text})

    def _entry(
        self, number: int, tokens: Sequence[NewToken], name: str, content: Mapping[str, Any]
    ) -> dict[str, Any]:
        log = self._logs[number]
        if self._listed:
            note(log, tokens)
        return {
            "index": number,
            name: content,
            "logprobs": log.take() if self._listed else None,
            "finish_reason": tokens[-1].finish,
        }
