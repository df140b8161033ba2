"""Log-probabilities of a prompt as a server echoes them, and whether they are of this prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from broadbase.adapt.openai_client import Client
from broadbase.core.errors import EndpointError
from broadbase.core.trees import brief

PROBE = "One two three."  # a prompt that shows what a server can do
SPELLED = ("token_id:", "bytes:", "<")  # tokens that are no text
MARKS = str.maketrans({"\u2581": " ", "\u0120": " ", "\u010a": "\n"})  # blanks in vocabularies
ROUNDING = 1e-3  # a log-probability may be above 0 by so much


class AnswerScore(NamedTuple):
    """The log-probability of an answer, and its number of tokens."""

    logprob: float
    tokens: int


class Echo(NamedTuple):
    """A token of a prompt."""

    start: int  # its first character
    end: int
    logprob: float | None


def is_echoed(choice: Mapping[str, Any]) -> bool:
    """Return whether a server gives log-probabilities of a prompt, be they right or not."""
    return bool(choice.get("text")) and isinstance(choice.get("logprobs"), Mapping)


def answer_logprob(
    client: Client, choice: Mapping[str, Any], prompt: str, answer: str
) -> AnswerScore:
    """Return the log-probability of the answer at the end of an echoed prompt.

    It is that of the tokens that reach into the answer. EndpointError where they are not of it.
    """
    tokens = echoed(client, choice, prompt + answer)
    first = len(prompt)
    logprobs = [token.logprob for token in tokens if token.start >= first or token.end > first]
    values = [each for each in logprobs if each is not None]
    if not values or len(values) < len(logprobs):
        raise _lie(client, f"no log-probability of the answer {answer!r}")
    return AnswerScore(sum(values), len(values))


def echoed(client: Client, choice: Mapping[str, Any], text: str) -> list[Echo]:
    """Return the tokens of a text with their log-probabilities.

    EndpointError where the lists of the server do not fit each other, or the text.
    """
    if choice.get("text") != text:
        raise _lie(client, f"the text {brief(choice.get('text'))} instead of {brief(text)}")
    lists = choice.get("logprobs")
    names = ("tokens", "token_logprobs", "text_offset")
    columns = [lists.get(name) if isinstance(lists, Mapping) else None for name in names]
    if not all(isinstance(column, list) and column for column in columns):
        raise _lie(client, f"no lists {', '.join(names)}")
    tokens, logprobs, offsets = columns
    assert isinstance(tokens, list)
    assert isinstance(logprobs, list)
    assert isinstance(offsets, list)
    if not len(tokens) == len(logprobs) == len(offsets):
        sizes = f"{len(tokens)} tokens, {len(logprobs)} log-probabilities, {len(offsets)} offsets"
        raise _lie(client, sizes)
    result = list[Echo]()
    for i, (token, logprob, start) in enumerate(zip(tokens, logprobs, offsets, strict=True)):
        end = offsets[i + 1] if i + 1 < len(offsets) else len(text)
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end:
            raise _lie(client, f"offsets {brief(offsets)}, which do not rise")
        if not _spells(str(token), text[start:end]):
            raise _lie(client, f"the token {token!r} where the text has {text[start:end]!r}")
        if logprob is None and i == 0:
            result.append(Echo(start, end, None))
        elif isinstance(logprob, int | float) and logprob <= ROUNDING:
            result.append(Echo(start, end, float(logprob)))
        else:
            raise _lie(client, f"the log-probability {brief(logprob)} of the token {token!r}")
    if result[0].start:
        raise _lie(client, f"tokens from character {result[0].start} on")
    return result


def _spells(token: str, text: str) -> bool:
    """Return whether a token may be what a text has there."""
    plain = token.translate(MARKS).strip()
    return plain == text.strip() or not text or token.startswith(SPELLED) or "\ufffd" in token


def _lie(client: Client, what: str) -> EndpointError:
    return client.error(
        f"echoes {what}: its log-probabilities are not those of the prompt",
        "take --set by=generation, or a server whose echo is right",
    )
