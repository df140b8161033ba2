"""Loss on answers only: the gradient of packed conversations is that of each of them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.data.rows import pack_beginnings
from broadbase.modalities.chat_codec import ChatCodec
from broadbase.model.model import Model
from support.chats import WORDS, chat_codec, chat_model, rows_of, talk
from support.training import CORRUPT, trainer

CODEC = chat_codec()
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
turns = st.lists(st.tuples(texts, texts, st.booleans()), min_size=1, max_size=3)


def conversation(turns: list[tuple[str, str, bool]], system: str | None) -> list[dict[str, Any]]:
    """Questions and answers; an answer that is no target, unless it is the last, has weight 0."""
    messages = talk(*(text for turn in turns for text in turn[:2]), system=system)
    answers = [m for m in messages if m["role"] == "assistant"]
    for message, (_, _, counts) in zip(answers[:-1], turns[:-1], strict=True):
        message["weight"] = int(counts)
    return messages


def alone(
    codec: ChatCodec, model: Model, messages: list[dict[str, Any]], length: int
) -> tuple[torch.Tensor, int]:
    """The nats of the answers of one conversation and their tokens, written out by hand."""
    ids, counts = [int(codec.start)], [False]
    for message in messages:
        text = codec.by.encode(message["content"]).values.tolist()
        mark = codec.tokenizer.token_to_id(f"<|{message['role']}|>")
        learned = message["role"] == "assistant" and message.get("weight", 1) == 1
        ids += [mark, *text, int(codec.end)]
        counts += [False, *[learned] * (len(text) + 1)]
    values = torch.tensor([ids[:length]])
    line = torch.arange(len(values[0]))[None, :, None].expand(-1, -1, 3)
    read = (Predict("text", "logits"),)
    stream = Stream("main", "main", (Segment("text", values, line),), "causal", readouts=read)
    logits = model(View((stream,))).predictions["logits"]
    nats = F.cross_entropy(logits[0, :-1], values[0, 1:], reduction="none")
    kept = torch.tensor(counts[1:length])
    return nats[kept].sum(), int(kept.sum())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(turns, st.none() | texts), min_size=2, max_size=6),
    st.integers(12, 90),
    st.integers(1, 2),
)
def test_any_packing_and_cutting_has_the_gradient_of_the_conversations_alone(
    drawn: list[Any], length: int, pieces: int
) -> None:
    talks = [conversation(*each) for each in drawn]
    model = chat_model()
    parts = [alone(CODEC, model, each, length) for each in talks]
    count = sum(tokens for _, tokens in parts)
    segment = rows_of(CODEC, talks, length, pack_beginnings)
    pieces = min(pieces, len(segment.values))
    if not count:
        return
    (sum(nats for nats, _ in parts) / count).backward()  # type: ignore[union-attr]
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    t = trainer(model, "causal", pieces)
    totals, shares = t.accumulate(
        t.objective.views(Batch(0, {"text": segment}, KeyedRandom(0, 0)), CORRUPT)
    )
    result = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert shares["text"].weight == count
    assert (result - expected).norm() <= 1e-10 * expected.norm()
    assert totals["text"] == pytest.approx(sum(float(nats.detach()) for nats, _ in parts))
