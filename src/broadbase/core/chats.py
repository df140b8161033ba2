"""Conversations: messages with a role and a text, in one canonical spelling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

ROLES = ("system", "user", "assistant")
ANSWER = "assistant"


class ChatMessage(TypedDict):
    """A message of a conversation."""

    role: str  # one of ROLES
    content: str
    weight: int  # 1 if it is a target, as answers are by default, or 0


class Chat(str):
    """A conversation as JSON: equal for equal messages, so that it can be hashed and compared.

    A string of its own kind: any other string is a plain text.
    """

    __slots__ = ()

    @classmethod
    def of(cls, messages: Iterable[Mapping[str, Any]]) -> Chat:
        """Return the conversation of some messages; ValueError says what is wrong with them.

        The first may be of the system; then user and assistant take turns, the user first. An
        answer is a target unless its `weight` is 0, as in the files of OpenAI's fine-tuning.
        """
        checked = [_message(i, each) for i, each in enumerate(messages, 1)]
        _check_order([message["role"] for message in checked])
        return cls(json.dumps(checked, ensure_ascii=False, separators=(",", ":")))

    @property
    def messages(self) -> list[ChatMessage]:
        """The messages in order."""
        messages: list[ChatMessage] = json.loads(self)
        return messages


def answered(chat: Chat) -> Chat:
    """Return a conversation; ValueError where it does not end with an answer to learn."""
    last, number = chat.messages[-1], len(chat.messages)
    if last["role"] != ANSWER:
        raise ValueError(
            f"message {number}, the last one, is of {last['role']!r}: a conversation ends with an"
            " answer of 'assistant'"
        )
    if not last["weight"]:
        raise ValueError(f"message {number}, the last answer, has weight 0; leave it out")
    return chat


def _message(number: int, given: Any) -> ChatMessage:
    if not isinstance(given, Mapping):
        raise ValueError(f"message {number} is {type(given).__name__}, expected an object")
    role, content = given.get("role"), given.get("content")
    if role not in ROLES:
        raise ValueError(f"message {number}: unknown role {role!r}; use {', '.join(ROLES)}")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = _joined(number, content)
    if not isinstance(content, str) or not content.strip():
        kind = "empty" if content is None or isinstance(content, str) else type(content).__name__
        raise ValueError(f"message {number}: `content` is {kind}, expected a text")
    weight = given.get("weight", 1)
    if weight not in (0, 1):
        raise ValueError(f"message {number}: `weight` is {weight!r}, expected 0 or 1")
    return {"role": role, "content": content, "weight": int(weight) if role == ANSWER else 0}


def _joined(number: int, parts: Sequence[Any]) -> str:
    """Return the text of a content in parts; ValueError where one is no text."""
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"message {number}: `content` has a part that is no text")
    return "".join(map(str, texts))


def _check_order(roles: Sequence[str]) -> None:
    """Check that user and assistant take turns after the system's message, if there is one."""
    if not roles:
        raise ValueError("a conversation without messages")
    first = int(roles[0] == "system")
    if len(roles) == first:
        raise ValueError("a conversation of the system's message alone")
    for i, role in enumerate(roles[first:]):
        expected = ("user", ANSWER)[i % 2]
        if role != expected:
            raise ValueError(
                f"message {first + i + 1} is of {role!r} and out of order: expected {expected!r},"
                " as user and assistant take turns"
            )
