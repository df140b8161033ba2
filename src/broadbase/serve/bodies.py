"""The bodies of requests to the API, as OpenAI's clients send them.

A field that would change the answer, and that this server does not have, is refused unless it has
the value that changes nothing. Fields that change nothing are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from broadbase.core.config import Config

NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # values that change nothing
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
HARMLESS = (
    *("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"),
    *("prompt_cache_retention",),
)
MOST_STOPS, MOST_N, MOST_LOGPROBS = 4, 8, 5
SEED = 2**63

Ids = list[Annotated[int, Field(ge=0, lt=2**31)]]
Count = Annotated[int, Field(ge=0, le=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, Field(max_length=1000)]


class Body(Config):
    """A JSON object; a wrong type is an error, and no text or number is read as another."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_fields(cls, tree: Any) -> Any:
        """Take out what changes nothing; ValueError names a field that is not supported."""
        if not isinstance(tree, dict):
            return tree
        kept = dict[str, Any]()
        for name, value in tree.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name in HARMLESS or value is None or value in NEUTRAL.get(name, ()):
                continue
            elif name in NEUTRAL:
                usual = " or ".join(map(repr, NEUTRAL[name]))
                raise ValueError(f"`{name}` is not supported; leave it out, or send {usual}")
            else:
                raise ValueError(f"`{brief_name(name)}` is not supported; leave it out")
        return kept


def brief_name(name: Any) -> str:
    """Return the name of a field, as a message may have it."""
    return str(name)[:60].encode(errors="backslashreplace").decode()


class StreamOptions(Config):
    """What a stream holds."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None
    """Whether the last event counts the tokens."""
    include_obfuscation: bool | None = None
    """Without effect: no event is padded."""


class Drawing(Body):
    """What completions and chats have in common."""

    model: Name
    """The name of a base."""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """What logits are divided by before sampling; 0: the likeliest token. [1]"""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """The likeliest tokens that together have this probability are sampled from. [1]"""
    top_k: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """How many of the likeliest tokens are sampled from. [all]"""
    n: Annotated[int, Field(ge=1, le=MOST_N)] | None = None
    """How many answers are drawn for each prompt. [1]"""
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    """Texts at which an answer ends; they are left out."""
    seed: Annotated[int, Field(ge=-SEED, lt=SEED)] | None = None
    """Answer i of a request is drawn by seed + 1,000,003 i, as `Base.generate_batch` does. [a new
    one for each request]"""
    stream: bool | None = None
    """Whether each token is sent when it is drawn."""
    stream_options: StreamOptions | None = None
    """What the stream holds."""

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts to stop at."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(Drawing):
    """The body of /v1/completions."""

    prompt: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=128)]
        | Annotated[list[Ids], Field(min_length=1, max_length=128)]
    )
    """A text, a list of texts, the ids of a text, or a list of these."""
    max_tokens: Count | None = None
    """The most tokens that are drawn. [16]"""
    suffix: str | None = None
    """The text after what is drawn, for bases that learned to fill in the middle."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """How many of the likeliest tokens are listed for each token."""
    echo: bool | None = None
    """Whether the answer begins with the prompt."""
    best_of: int | None = None
    """As n: of several answers all are returned."""

    @model_validator(mode="after")
    def _returns_all(self) -> CompletionBody:
        if self.best_of not in (None, self.n or 1):
            raise ValueError("`best_of` other than `n` is not supported; leave it out")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, texts or ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt or isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return [*self.prompt]


class TextPart(Config):
    """A part of a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    """Only texts can be read."""
    text: str
    """The text."""


class Message(Config):
    """A message of a chat."""

    model_config = ConfigDict(strict=True)

    role: Annotated[str, Field(min_length=1, max_length=64)]
    """Who speaks; the template says which there are."""
    content: str | list[TextPart]
    """The text, or its parts."""
    name: str | None = None
    """The name of the speaker, for templates that have it."""


class ChatBody(Drawing):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    """The chat so far."""
    max_tokens: Count | None = None
    """The most tokens that are drawn; the same as `max_completion_tokens`."""
    max_completion_tokens: Count | None = None
    """The most tokens that are drawn. [what the context leaves, up to 1,024]"""
    logprobs: bool | None = None
    """Whether the probabilities of the tokens are listed."""
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    """How many of the likeliest tokens are listed for each token; needs `logprobs`."""

    @model_validator(mode="after")
    def _lists_probabilities(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs`: true")
        return self


class EmbeddingBody(Body):
    """The body of /v1/embeddings."""

    model: Name
    """The name of a base."""
    input: Any
    """A text, its ids, a record {"image": BASE64} or {"audio": BASE64}, or a list of these."""
    modality: Name | None = None
    """The modality of the records. [the first of the base]"""
    encoding_format: Literal["float", "base64"] | None = None
    """Numbers, or the base64 of little-endian 32-bit floats. [float]"""


class NeighboursBody(Body):
    """The body of /b/neighbours."""

    model: Name
    """The name of a base."""
    query: Any
    """The record whose neighbours are wanted."""
    records: Annotated[list[Any], Field(min_length=1, max_length=4096)] | None = None
    """The records among which they are sought."""
    file: Name | None = None
    """Or the name of a file that was given at start (--records)."""
    modality: Name | None = None
    """The modality of the records. [the first of the base]"""
    k: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many there are at most. [5]"""


class ImageBody(Body):
    """The body of /v1/images/generations."""

    model: Name
    """The name of a base."""
    prompt: Annotated[str, Field(max_length=32_000)]
    """The text that the picture is drawn after."""
    n: Annotated[int, Field(ge=1, le=MOST_N)] | None = None
    """How many pictures are drawn. [1]"""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """What logits are divided by before sampling. [1]"""
    seed: Annotated[int, Field(ge=-SEED, lt=SEED)] | None = None
    """The seed of sampling, as in /v1/completions."""
    response_format: Literal["b64_json"] | None = None
    """Pictures come as base64 of PNG."""
