"""Chats: conversations as a chat template writes them, in the ids of a modality of text.

Only the answers are targets. A plain text is read as the modality of text reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from broadbase.core.chats import Chat, answered
from broadbase.core.codec import Codec
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.modalities.chat_codec import MARKS, ChatCodec
from broadbase.modalities.chat_template import ChatTemplate
from broadbase.modalities.text import TextConfig
from broadbase.nn.spaces.discrete import Discrete, DiscreteConfig


class ChatConfig(ModalityConfig):
    """Conversations in the vocabulary of another modality, with ids that mark who speaks."""

    name: Literal["chat"] = "chat"
    continued: ClassVar[bool] = False
    weighted: ClassVar[bool] = True
    by: ModalityConfig = TextConfig()
    """The modality of the texts; a run that starts from a base has the base's."""
    marks: bool = True
    """Whether three new ids, after those of the text, mark who speaks; false: the chat template
    that comes with the base's tokenizer has its own."""

    @property
    def id_settings(self) -> DiscreteConfig:
        """The settings of the ids of the text, with the marks as extra ids."""
        discrete = self.by.id_settings
        if not isinstance(discrete, DiscreteConfig):
            raise ConfigError(f"modality 'chat' by {self.by.name!r}: take one of text")
        return discrete.replace(extra_ids=discrete.extra_ids + len(MARKS) * self.marks)

    @property
    def first_mark(self) -> int:
        """The id after all those of the text."""
        discrete = self.by.id_settings
        assert isinstance(discrete, DiscreteConfig)
        return discrete.vocab_size + discrete.extra_ids

    def over(self, base: ModalityConfig, codec: Codec) -> ModalityConfig:
        """Return chats in the ids of a base, with its chat template if it has one."""
        if isinstance(base, ChatConfig):
            return base
        return self.replace(by=base, marks=codec.chat is None)

    def adopt(self, codec: Codec) -> Codec:
        """Return the codec of chats by that of the texts."""
        if isinstance(codec, ChatCodec):
            return codec
        return ChatCodec(codec, codec.chat, self.first_mark if self.marks else None)

    def clean(self, raw: Any) -> Any:
        """Return messages as a `Chat` whose texts are clean, and a text as its modality does.

        ValueError where messages are not in order or do not end with an answer.
        """
        chat = self._chat(raw)
        return self.by.clean(raw) if chat is None else answered(chat)

    def clean_prefix(self, raw: Any) -> Any:
        """Return the beginning of a conversation or of a text in that form."""
        chat = self._chat(raw)
        return self.by.clean_prefix(raw) if chat is None else chat

    def _chat(self, raw: Any) -> Chat | None:
        """Return the conversation that a record is, its texts clean; None if it is none."""
        if isinstance(raw, Chat):
            raw = raw.messages
        elif isinstance(raw, str | bytes) or not isinstance(raw, Sequence):
            return None
        if not all(isinstance(each, Mapping) for each in raw):
            return None
        chat = Chat.of(raw)
        return Chat.of({**m, "content": self.by.clean(m["content"])} for m in chat.messages)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        """Return the changes of a text."""
        return () if self._chat(raw) is not None else self.by.conversions(raw)

    def shingles(self, raw: Any) -> Sequence[str]:
        """Return the shingles of all texts of a conversation."""
        return self.by.shingles("\n".join(_texts(raw)))

    def chunks(self, raw: Any) -> Iterable[Any]:
        """Return a conversation as it is, and a text in chunks."""
        return (raw,) if isinstance(raw, Chat) else self.by.chunks(raw)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec whose tokenizer is trained on all texts."""
        return self.adopt(self.by.fit(text for record in records for text in _texts(record)))

    def load(self, folder: Path) -> Codec:
        """Return the codec in `folder`; DataError if its chat template is missing."""
        template = ChatTemplate.of_folder(folder)
        if template is None:
            raise DataError(f"{folder / 'chat_template.jinja'} is missing; copy the folder again")
        return ChatCodec(self.by.load(folder), template, self.first_mark if self.marks else None)

    def space(self, width: int) -> Discrete:
        """Return the embedder and head of the ids."""
        return self.id_settings.build(width)

    def corruption(self) -> Corruption:
        """Return the corruption of the texts."""
        return self.by.corruption()

    def corruption_of(self, codec: Codec) -> Corruption:
        """Return the corruption of the texts with its units."""
        assert isinstance(codec, ChatCodec)
        return self.by.corruption_of(codec.by)


def _texts(raw: Any) -> list[str]:
    """Return the texts of a conversation, or a text alone."""
    return [each["content"] for each in raw.messages] if isinstance(raw, Chat) else [raw]
