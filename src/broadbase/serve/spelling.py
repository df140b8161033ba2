"""Tokens as texts, and their log-probabilities in the two forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from broadbase.core.codec import Codec
from broadbase.inference.batching import NewToken

BROKEN = "\ufffd"  # of bytes that are no character yet

Top = Sequence[tuple[int, float]]  # ids and log-probabilities, the likeliest first


class Spelling:
    """Spells one token after another.

    A token that is only a part of a character, or is spelled like another one, is "token_id:7". A
    special token is spelled as the vocabulary has it, though it adds nothing to the text.
    """

    def __init__(self, codec: Codec, offset: int = 0) -> None:
        """Begin at an offset of the text, in characters."""
        self.codec, self.offset = codec, offset
        self._before: list[int] = []  # the last tokens that end with a complete character
        self._open: list[int] = []  # those after them

    def add(self, identity: int) -> tuple[str, int]:
        """Return the spelling of the next token, and where it begins in the text."""
        spelling, offset = self.spell(identity), self.offset
        self._open.append(identity)
        text = self._text(self._open)
        if not text.endswith(BROKEN):
            self.offset += len(text)
            self._before, self._open = self._open, []
        return spelling, offset

    def spell(self, identity: int) -> str:
        """Return how a token would be spelled if it came next."""
        if self.codec.is_special(identity):
            return self.codec.id_to_token(identity)
        text = self._text([identity])
        if not text:
            token = self.codec.id_to_token(identity)
            return f"token_id:{identity}" if token == str(identity) else token
        return f"token_id:{identity}" if BROKEN in text else text

    def top(self, chosen: int, logprob: float, top: Top) -> dict[str, float]:
        """Return log-probabilities by spelling, those of the likeliest and of the chosen token."""
        spelled: dict[str, float] = {}
        for identity, value in (dict(top) | {chosen: logprob}).items():
            name = self.spell(identity)
            spelled[f"token_id:{identity}" if name in spelled else name] = value
        return spelled

    def _text(self, ids: Sequence[int]) -> str:
        before = np.array(self._before, dtype=np.int64)
        return str(self.codec.continuation(before, np.array(ids, dtype=np.int64)))


class Log(Protocol):
    """The log-probabilities of an answer."""

    def add(self, identity: int, logprob: float | None, top: Top) -> None:
        """Add a token."""
        ...


def note(log: Log, tokens: Sequence[NewToken]) -> None:
    """Add tokens to a log, but for a text that is no one token."""
    for token in tokens:
        if token.id >= 0:
            log.add(token.id, token.logprob, token.top)


class TokenLog:
    """The log-probabilities of a completion: four lists with an item for each token."""

    def __init__(self, codec: Codec) -> None:
        """Begin with no token."""
        self._spelling = Spelling(codec)
        self.tokens: list[str] = []
        self.token_logprobs: list[float | None] = []
        self.top_logprobs: list[dict[str, float] | None] = []
        self.text_offset: list[int] = []

    def add(self, identity: int, logprob: float | None, top: Top) -> None:
        """Add a token; one without a log-probability is the first."""
        listed = None if logprob is None else self._spelling.top(identity, logprob, top)
        spelling, offset = self._spelling.add(identity)
        self.tokens.append(spelling)
        self.token_logprobs.append(logprob)
        self.top_logprobs.append(listed)
        self.text_offset.append(offset)

    def take(self) -> dict[str, Any]:
        """Return the lists, and begin new ones."""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        lists = {name: getattr(self, name) for name in names}
        for name in names:
            setattr(self, name, [])
        return lists


class ChatLog:
    """The log-probabilities of a chat's answer: an object for each token."""

    def __init__(self, codec: Codec) -> None:
        """Begin with no token."""
        self._spelling = Spelling(codec)
        self.content: list[dict[str, Any]] = []

    def add(self, identity: int, logprob: float | None, top: Top) -> None:
        """Add a token."""
        listed = [_entry(self._spelling.spell(i), value) for i, value in top]
        spelling, _ = self._spelling.add(identity)
        self.content.append({**_entry(spelling, logprob), "top_logprobs": listed})

    def take(self) -> dict[str, Any]:
        """Return the list, and begin a new one."""
        content, self.content = self.content, []
        return {"content": content}


def _entry(token: str, logprob: float | None) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": [*token.encode(errors="replace")]}
