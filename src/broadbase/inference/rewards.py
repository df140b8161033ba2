"""Rewards of answers, and the best of several by them (Stiennon et al. 2020, best of n).

Legend: B conversations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from broadbase.core.errors import ConfigError
from broadbase.core.view import Predict
from broadbase.inference.base import Base
from broadbase.inference.documents import alike

HEAD = "reward"
Messages = list[Mapping[str, Any]]


class Ranked(NamedTuple):
    """An answer and its reward."""

    answer: str
    reward: float


def messages_of(prompt: Any) -> Messages:
    """Return the messages of a prompt: a text is one of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


@torch.inference_mode()
def rewards(model: Base, chats: Sequence[Messages], batch: int = 32) -> list[float]:
    """Return the reward of the last answer of each conversation, in the order given.

    ConfigError if the base has no head for rewards; DataError if it cannot read a conversation.
    """
    if HEAD not in model.config.heads:
        raise ConfigError(
            f"this base has no head {HEAD!r}, so it gives no rewards; train one with `broadbase"
            " pretrain reward --data PAIRS --init-from RUN`"
        )
    space, _ = model.codec()
    lengths = [model.read([chat], closed=True).position.shape[1] for chat in chats]
    values = [0.0] * len(chats)
    for numbers in alike(lengths, batch):
        segment = model.read([chats[i] for i in numbers], closed=True)
        view = model._view(space, segment, (Predict(HEAD, HEAD, pooled=True),))
        given_B = model.model(view).predictions[HEAD].flatten()
        for i, reward in zip(numbers, given_B.tolist(), strict=True):
            values[i] = reward
    return values


def best_of(
    base: Base, judge: Base, prompts: Sequence[Any], count: int, **options: Any
) -> list[Ranked]:
    """Return, of `count` answers that a base draws to each prompt, the one of the highest reward.

    Prompts are texts or messages; `options` are those of `Base.generate_batch`. An empty answer has
    no reward: it is taken only where all are empty.
    """
    chats = [messages_of(prompt) for prompt in prompts]
    drawn = base.generate_batch([chat for chat in chats for _ in range(count)], **options)
    ranked = []
    for i, chat in enumerate(chats):
        answers = drawn[i * count : (i + 1) * count]
        written = [answer for answer in answers if answer.strip()]
        given = [[*chat, {"role": "assistant", "content": answer}] for answer in written]
        pairs = zip(rewards(judge, given), written, strict=True)
        reward, answer = max(pairs, key=lambda pair: pair[0], default=(-math.inf, ""))
        ranked.append(Ranked(answer, reward))
    return ranked
