"""Conversations, preferences, and a codec of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.core.view import Segment
from broadbase.data.batches import collate
from broadbase.data.rows import Rows
from broadbase.data.store.documents import Split
from broadbase.modalities.chat import ChatConfig
from broadbase.modalities.chat_codec import ChatCodec
from broadbase.modalities.text import TextConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from support.models import TOWER

Plan = Callable[[Split, int], Any]

WORDS = "the red green blue bird cat sings sleeps in a tree on one hill".split()  # noqa: SIM905
CHAT = ChatConfig(by=TextConfig(vocab_size=300))


def talk(*texts: str, system: str | None = None) -> list[dict[str, Any]]:
    """Messages of user and assistant in turns."""
    first = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return [*first, *({"role": roles[i % 2], "content": t} for i, t in enumerate(texts))]


def chats(count: int = 40) -> list[list[dict[str, Any]]]:
    """Conversations of one or two questions, whose answers are their last words."""
    made = []
    for i in range(count):
        words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 6)]
        texts = [f"{' '.join(words[:3])}, {i}?", f"{words[2]} {i}"]
        made.append(talk(*texts, *([] if i % 2 else [f"and {words[4]}?", words[4]])))
    return made


def preferences(count: int = 40) -> list[dict[str, Any]]:
    """Prompts with an answer that repeats their last word, and one that says no."""
    return [
        {"prompt": f"say {word}, {i}", "chosen": f"{word} {i}", "rejected": f"no {i}"}
        for i, word in ((i, WORDS[i % len(WORDS)]) for i in range(count))
    ]


def json_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat_codec() -> ChatCodec:
    codec = CHAT.fit([CHAT.clean(each) for each in chats()])
    assert isinstance(codec, ChatCodec)
    return codec


def rows_of(codec: ChatCodec, conversations: Sequence[Any], length: int, plan: Plan) -> Segment:
    """Conversations as the rows that a run would train on, all in one segment."""
    samples = [codec.encode(CHAT.clean(each)) for each in conversations]
    sizes = np.array([len(sample.values) for sample in samples])
    split = Split(
        values=(np.concatenate([sample.values for sample in samples]),),
        shards=np.zeros_like(sizes),
        firsts=np.cumsum(sizes) - sizes,
        lengths=sizes,
        units_each=np.array([sample.units for sample in samples]),
        grids=sizes[:, None],
        start=codec.start,
        end=codec.end,
        weights=(np.concatenate([sample.weight for sample in samples]),),
    )
    rows = Rows(split, length, plan)
    return collate([rows[i] for i in range(len(rows))], "text", plain=False)


def chat_model() -> Model:
    """A small model of chats with numbers of 64 bits and a head for rewards."""
    tree = {
        "modalities": {"text": CHAT},
        "heads": {"reward": {"name": "regression", "channels": 1, "normalise": False}},
        "towers": {"main": TOWER},
    }
    model = ModelConfig.model_validate(tree).build()
    initialise(model, 0)
    return model.double()
