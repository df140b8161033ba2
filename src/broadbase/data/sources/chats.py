"""Sources of conversations: JSON lines with a list of messages each, and preferences over answers.

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
{"prompt": "...", "chosen": "...", "rejected": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from broadbase.core.chats import Chat, answered
from broadbase.core.sources import Record, Reject
from broadbase.data.sources.fields import ABSENT, column_hint, value
from broadbase.data.sources.json_files import JsonLinesConfig


class ChatsConfig(JsonLinesConfig):
    """Every line is an object with the messages of a conversation in `field`."""

    name: Literal["chats"] = "chats"  # type: ignore[assignment]
    field: str = "messages"
    """The column of the messages."""

    def _content(self, origin: str, name: str, raw: Any) -> Record | Reject:
        """Return the conversation in a column; a Reject says what is wrong with it."""
        try:
            return Record(answered(_conversation(name, raw)), origin)
        except ValueError as error:
            return Reject(origin, str(error))


class PreferencesConfig(JsonLinesConfig):
    """One side of preferences: every line has a `prompt`, a `chosen` and a `rejected` answer.

    A record is the conversation of the prompt and one of the answers, which alone is a target.
    Answers to one prompt fall on one side of the split.
    """

    name: Literal["preferences"] = "preferences"  # type: ignore[assignment]
    field: Literal["chosen", "rejected"] = "chosen"
    """Which of the two answers."""
    prompt: str = "prompt"
    """The column of the prompt: a text of the user, or messages."""

    def _row(self, origin: str, row: Mapping[str, Any]) -> Record | Reject:
        columns = {name: value(row, name) for name in (self.prompt, "chosen", "rejected")}
        for name, content in columns.items():
            if content is ABSENT:
                return Reject(origin, f"no field `{name}`{column_hint(name, row)}")
        record = super()._row(origin, row)
        if isinstance(record, Reject):
            return record
        if columns["chosen"] == columns["rejected"]:
            return Reject(origin, "the chosen and the rejected answer are equal")
        try:
            given = columns[self.prompt]
            given = [{"role": "user", "content": given}] if isinstance(given, str) else given
            prompt = _conversation(self.prompt, given)
            before = [{**message, "weight": 0} for message in prompt.messages]
            answer = {"role": "assistant", "content": record.raw}
            chat = answered(Chat.of([*before, answer]))
        except ValueError as error:
            return Reject(origin, str(error))
        return replace(record, raw=chat, group=record.group or prompt)


def _conversation(name: str, raw: Any) -> Chat:
    """Return the conversation of a list of messages; ValueError says why there is none."""
    if not isinstance(raw, list):
        raise ValueError(f"field `{name}` is {type(raw).__name__}, expected a list of messages")
    return Chat.of(raw)
