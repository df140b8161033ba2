"""A base behind an OpenAI-compatible server: it writes texts, and may score them.

Its weights are elsewhere, so that it has no vectors and no number of parameters. Log-probabilities
of a prompt come from `echo` of /v1/completions, where the server has it.

Legend: M prompts, K answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import nn

from broadbase.adapt.echo import PROBE, answer_logprob, is_echoed
from broadbase.adapt.openai_client import Client
from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError, EndpointError
from broadbase.core.usage import Usage
from broadbase.core.view import Segment
from broadbase.inference.autoregressive import AutoregressiveConfig, SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.scoring import AnswerLogprobs
from broadbase.modalities.text import TextConfig
from broadbase.model.model import ModelConfig

COMPLETIONS, CHAT = "/completions", "/chat/completions"
LACKING = (400, 404, 405, 422, 501)  # statuses of a server without a route or a setting
SIDE_BY_SIDE = 4  # requests
PROMPTS = 16  # of a request
PIECE = 4  # bytes: about a token


class Pieces(Codec):
    """Texts in pieces of four bytes, about as long as tokens: how an endpoint's are counted."""

    unit = "byte"
    start: NDArray[Any] = np.array(0)
    end: NDArray[Any] | None = np.array(0)

    def encode(self, raw: Any) -> Sample:
        """Encode a text as the numbers [N] of its pieces."""
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type(raw).__name__}")
        data = raw.encode()
        padded = data + bytes(-len(data) % PIECE)
        values = np.frombuffer(padded, dtype="<u4").astype(np.int64)
        return Sample(values, (len(values),), len(data))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        """Return the text of pieces."""
        return values.astype("<u4").tobytes().rstrip(b"\0").decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Write nothing."""


class RemoteTextConfig(TextConfig):
    """Texts for a model that is elsewhere, with a tokenizer that is not known here."""

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing."""
        return Pieces()


class RemoteTowerConfig(TowerConfig):
    """The tower of a model that is elsewhere."""

    width: int = 1

    def build(self) -> nn.Module:
        """Return nothing to compute with."""
        return nn.Identity()


@dataclass(frozen=True, repr=False, kw_only=True)
class Endpoint(Base):
    """A base that answers over HTTP."""

    client: Client
    echo: bool  # whether the server gives log-probabilities of a prompt
    chat: bool  # whether texts are written by /v1/chat/completions

    @classmethod
    def open(cls, address: str) -> Endpoint:
        """Return the base at `URL#MODEL`, after a request that shows what its server can do.

        EndpointError where it does not answer.
        """
        client = Client.at(address)
        config = ModelConfig(
            modalities={"text": RemoteTextConfig()}, towers={"main": RemoteTowerConfig()}
        )
        echo, chat = _abilities(client)
        return cls(
            config,
            config.build(),
            {"text": Pieces()},
            Usage(attention="causal", generator=AutoregressiveConfig()),
            client=client,
            echo=echo,
            chat=chat,
        )

    def __repr__(self) -> str:
        """Return its address."""
        return f"Endpoint({self.client.name})"

    @property
    def unavailable(self) -> tuple[str, ...]:
        """What cannot be measured of a base behind an endpoint."""
        lines = [
            f"{self.client.name} is an endpoint: there are no vectors of its layers, no number of"
            " parameters, no hash of its weights, and no random init to compare with"
        ]
        if not self.echo:
            lines.append(
                f"{self.client.name} gives no log-probabilities of a prompt (echo): classes are"
                " read from what it writes, and have no probability of its own"
            )
        return tuple(lines)

    @property
    def gives_vectors(self) -> bool:
        """None leave the server."""
        return False

    def scoring_refusal(self, modality: str | None = None) -> str:
        """Refuse where the server has no `echo`."""
        return "" if self.echo else self.unavailable[-1]

    def score_answers(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        modality: str | None = None,
        prefix: Segment | None = None,
    ) -> AnswerLogprobs:
        """Return how likely each of the answers is after each prompt, as the server says it."""
        pairs = [(prompt, answer) for prompt in prompts for answer in answers]
        body = {"max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        choices = self._completed([prompt + answer for prompt, answer in pairs], body)
        scores = [
            answer_logprob(self.client, choice, *pair)
            for choice, pair in zip(choices, pairs, strict=True)
        ]
        shape = len(prompts), len(answers)
        logprobs = np.array([score.logprob for score in scores]).reshape(shape)
        return AnswerLogprobs(logprobs, np.array([s.tokens for s in scores]).reshape(shape))

    def generate_batch(
        self,
        raws: Sequence[Any],
        *,
        attachments: Sequence[Sequence[Any]] | None = None,
        modality: str | None = None,
        max_new_tokens: int = 64,
        grid: tuple[int, ...] | None = None,
        stop: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
        batch: int = 32,
    ) -> list[Any]:
        """Return what the server writes after each prompt."""
        sampling = sampling or SamplingConfig()
        body: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": sampling.temperature}
        body |= {"stop": list(stop)} if stop else {}
        if not self.chat:
            return [str(choice.get("text", "")) for choice in self._completed(raws, body)]

        def ask(prompt: str) -> str:
            messages = [{"role": "user", "content": prompt}]
            (choice,) = _choices(self.client, CHAT, {**body, "messages": messages}, 1)
            content = choice.get("message", {}).get("content")
            text = content if isinstance(content, str) else ""
            ends = [text.index(each) for each in stop if each in text]
            return text[: min(ends)] if ends else text

        return side_by_side(ask, raws)

    def reinitialised(self, seed: int) -> NoReturn:
        """Refuse: the architecture is not known."""
        raise ConfigError(f"{self.client.name} is an endpoint, and has no random init here")

    def _view(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            f"{self.client.name} is an endpoint, and gives no vectors of records; take --method"
            " prompt, or a base whose weights are here"
        )

    def _completed(self, prompts: Sequence[str], body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answer of /v1/completions to each prompt."""
        parts = [list(prompts[i : i + PROMPTS]) for i in range(0, len(prompts), PROMPTS)]

        def ask(part: list[str]) -> list[dict[str, Any]]:
            return _choices(self.client, COMPLETIONS, {"prompt": part, **body}, len(part))

        return [choice for choices in side_by_side(ask, parts) for choice in choices]


def side_by_side(ask: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Return the answers to some requests, a few of which are under way at once."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = [pool.submit(ask, item) for item in items]
        try:
            return [job.result() for job in jobs]
        finally:
            pool.shutdown(cancel_futures=True)


def _choices(client: Client, path: str, body: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the answers of a request in the order of its prompts."""
    choices = client.post(path, body).get("choices")
    if not isinstance(choices, list) or len(choices) != count:
        given = len(choices) if isinstance(choices, list) else "no"
        raise client.error(f"gives {given} answers to {count} prompts of {path}", "")
    rows = [choice if isinstance(choice, dict) else {} for choice in choices]
    return sorted(rows, key=lambda row: row.get("index", 0))


def _abilities(client: Client) -> tuple[bool, bool]:
    """Return whether the server echoes log-probabilities, and whether texts are written by chat."""
    body: dict[str, Any] = {"prompt": [PROBE], "max_tokens": 0, "echo": True, "logprobs": 1}
    problem = None
    try:
        (choice,) = _choices(client, COMPLETIONS, body, 1)
        if is_echoed(choice):
            return True, False
    except EndpointError as error:
        if error.status not in LACKING:
            raise
        problem = error
    messages = [{"role": "user", "content": PROBE}]
    try:
        _choices(client, CHAT, {"messages": messages, "max_tokens": 1}, 1)
        return False, True
    except EndpointError as error:
        if error.status not in LACKING:
            raise
    try:
        _choices(client, COMPLETIONS, {"prompt": [PROBE], "max_tokens": 1}, 1)
    except EndpointError as error:
        raise problem or error from None
    return False, False
