"""The codec of chats: messages, by a template and a tokenizer, to ids with the weights of targets.

Legend: N tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from broadbase.core.chats import ROLES, Chat
from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import ConfigError
from broadbase.inference.documents import opening
from broadbase.modalities.chat_template import ChatTemplate
from broadbase.modalities.special import panics_as_errors

MARKS = tuple(f"<|{role}|>" for role in ROLES)
TEMPLATE = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + message.content + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""
SHORTEST = Chat.of(
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
)  # shows how a template begins and ends every conversation


class ChatCodec(Codec):
    """Encodes conversations as their template and the tokenizer write them, as transformers does.

    A text in a conversation must not hold special tokens: it could pass for another speaker.
    """

    def __init__(self, by: Codec, template: ChatTemplate | None, first_mark: int | None) -> None:
        """Take the codec of the texts, the template (None: that of this file), the first mark."""
        if by.tokenizer is None:
            raise ConfigError(
                "chats need a tokenizer, and the modality of their texts has none; start from a"
                " base of modality 'text', or from published weights with a tokenizer.json"
            )
        self.by, self.unit = by, by.unit
        self.before, self.after, self.ends = by.before, by.after, by.ends
        self.placeholder_ids, self.has_bos = by.placeholder_ids, by.has_bos
        self.tokenizer: Tokenizer = _marked(by.tokenizer, first_mark)
        self.chat = template or ChatTemplate(TEMPLATE, self._ends_of_documents())
        ids, weight = self._ids(SHORTEST)
        self.start: NDArray[Any] = ids[0]
        ended = by.end is not None and ids[np.flatnonzero(weight)[-1]] == by.end
        self.end: NDArray[Any] | None = by.end if ended else None

    def encode(self, raw: Any) -> Sample:
        """Encode a conversation without its start and end, its answers as targets; or a text."""
        if not isinstance(raw, Chat):
            return self.by.encode(raw)
        ids, weight = self._ids(raw)
        if ids[0] != self.start:
            raise ValueError("the chat template does not begin every conversation with one token")
        last = int(np.flatnonzero(weight)[-1])
        if self.end is None:
            last += 1
        elif ids[last] != self.end:
            raise ValueError("the chat template does not end every conversation with one token")
        answers = (each["content"] for each in raw.messages if each["weight"])
        units = sum(len(text.encode(errors="surrogatepass")) for text in answers)
        return Sample(ids[1:last], (last - 1,), units, weight[1:last])

    def encode_prompt(self, raw: Any) -> Sample:
        """Encode a conversation up to where the answer begins; in a text, special tokens count."""
        if isinstance(raw, Chat):
            ids = np.array(self._encoded(self._written(raw, prompt=True)).ids, dtype=np.int64)
            first = opening(self)
            ids = ids[len(first) :] if np.array_equal(ids[: len(first)], first) else ids
        elif isinstance(raw, str):
            ids = np.array(self._encoded(raw).ids, dtype=np.int64)
        else:
            return self.by.encode_prompt(raw)
        return Sample(ids, (len(ids),), len(raw))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> Any:
        """Return the text of ids [N] without special tokens."""
        return self.by.decode(values, grid)

    def continuation(
        self, before: NDArray[Any], values: NDArray[Any], special: bool = False
    ) -> Any:
        """Return what `values` add to the text of the ids before them."""
        return self.by.continuation(before, values, special)

    def is_special(self, identity: int) -> bool:
        """Return whether an id is a special token."""
        return identity in self._special

    def id_to_token(self, identity: int) -> str:
        """Return the token of an id; that of the texts' codec if the tokenizer has none."""
        return self.tokenizer.id_to_token(identity) or self.by.id_to_token(identity)

    def save(self, folder: Path) -> None:
        """Write the files of the texts' codec, and the chat template."""
        self.by.save(folder)
        self.chat.save(folder)

    def _ids(self, chat: Chat) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids of a conversation as it is written, and the weights of targets: [N] each.

        An answer ends with its last special token, where it has one.
        """
        text = self._written(chat, prompt=False)
        encoded = self._encoded(text)
        ids, weight = np.array(encoded.ids, dtype=np.int64), np.zeros(len(encoded.ids), np.float32)
        first_N, last_N = np.array(encoded.offsets).T
        special_N = np.array([self.is_special(i) for i in encoded.ids])
        for first, last in self._answers(chat, text):
            inside_N = (first_N >= first) & (last_N <= last)
            ends = np.flatnonzero(inside_N & special_N)
            weight[inside_N if not len(ends) else inside_N & (np.arange(len(ids)) <= ends[-1])] = 1
        if not weight.any():
            raise ValueError("no token of the answer is left by the chat template")
        return ids, weight

    def _answers(self, chat: Chat, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the answers that are targets stand in the text of a conversation."""
        messages = chat.messages
        for i, message in enumerate(messages):
            if not message["weight"]:
                continue
            before = self._rendered(messages[:i], prompt=True)
            until = self._rendered(messages[: i + 1], prompt=False)
            if not (until.startswith(before) and text.startswith(until)):
                raise ValueError(
                    f"the chat template writes message {i + 1} in another way when more follow, so"
                    " it is not clear which tokens are its answer; make each answer the last of a"
                    " conversation of its own"
                )
            yield len(before), len(until)

    def _written(self, chat: Chat, *, prompt: bool) -> str:
        """Return a conversation as text; ValueError where a message holds a special token."""
        for number, message in enumerate(chat.messages, 1):
            if inside := self._specials.search(message["content"]):
                raise ValueError(
                    f"message {number} holds the special token {inside.group()!r}, which marks"
                    " who speaks or where a text ends; remove it"
                )
        return self._rendered(chat.messages, prompt=prompt)

    def _rendered(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> str:
        plain = [{"role": m["role"], "content": m["content"]} for m in messages]
        try:
            text: str = self.chat.render(plain, prompt=prompt)
        except ConfigError as error:  # of one conversation: others may be fine
            raise ValueError(str(error)) from None
        return text

    def _encoded(self, text: str) -> Any:
        with panics_as_errors():
            return self.tokenizer.encode(text, add_special_tokens=False)

    def _ends_of_documents(self) -> dict[str, str]:
        """Return how the start and the end of a document are spelled; ConfigError without an end.

        The end of a document is that of every message too.
        """
        if self.by.end is None:
            raise ConfigError(
                "this base has no chat template and no end of a document: add a"
                " chat_template.jinja to its folder"
            )
        ids = {"bos_token": int(self.by.start), "eos_token": int(self.by.end)}
        return {role: str(self.tokenizer.id_to_token(i)) for role, i in ids.items()}

    @cached_property
    def _special(self) -> set[int]:
        added = self.tokenizer.get_added_tokens_decoder()
        return {i for i, token in added.items() if token.special}

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        """Every special token, the longest first."""
        words = (str(self.tokenizer.id_to_token(i)) for i in self._special)
        return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)")


def _marked(tokenizer: Tokenizer, first: int | None) -> Tokenizer:
    """Return a tokenizer with the marks from the id `first` on; None: without them."""
    made = Tokenizer.from_str(tokenizer.to_str())
    if first is not None:
        missing = range(made.get_vocab_size(), first)
        made.add_special_tokens([*(f"<unused_{i}>" for i in missing), *MARKS])
    return made
