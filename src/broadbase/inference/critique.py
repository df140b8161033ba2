"""Constitutional revision: a base criticises and revises its own answers (Bai et al. 2022b, 3, 4).

To each prompt an answer is drawn, then its critique by a principle, then a revision. The base says
which of the two is better as well: by the probability of "B" over "A" as its answer to the
principle's question, in both orders, so that a liking for a letter cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from broadbase.core.chats import Chat
from broadbase.core.config import Config
from broadbase.core.errors import DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.likelihood import prompt_logprobs
from broadbase.inference.rewards import Messages, messages_of

QUESTION = "{question}\n\nRequest: {prompt}\n\nA: {first}\n\nB: {second}\n\nAnswer with A or B."
A, B = "A", "B"


class Principle(Config):
    """One rule of a constitution."""

    critique: str
    """The request for a critique of the last answer."""
    revision: str
    """The request to write the answer anew by that critique."""
    question: str
    """The question which of two answers is better."""


@dataclass(frozen=True)
class Revised:
    """An answer, what the base says against it, and the answer that it writes instead."""

    prompt: str
    answer: str
    critique: str
    revision: str
    probability: float  # that the revision is the better one, by the base

    @property
    def usable(self) -> bool:
        """Whether there are two different answers with a text."""
        texts = {self.answer.strip(), self.revision.strip()}
        return len(texts) == 2 and "" not in texts

    def preference(self) -> dict[str, Any]:
        """Return the pair as a line of the data of recipe `preference`."""
        pair = (self.revision, self.answer)
        chosen, rejected = pair if self.probability >= 0.5 else pair[::-1]
        certain = max(self.probability, 1 - self.probability)
        return {
            "prompt": self.prompt,
            "chosen": chosen,
            "rejected": rejected,
            "probability": round(certain, 6),
            "critique": self.critique,
            "revised": self.probability >= 0.5,
        }


def revise(
    base: Base,
    prompts: Sequence[str],
    principles: Sequence[Principle],
    *,
    max_new_tokens: int = 64,
    sampling: SamplingConfig | None = None,
) -> Iterator[Revised]:
    """Yield a revised answer for each prompt, the principles by turns.

    The base must answer conversations. DataError if it cannot read a prompt.
    """
    chance = sampling or SamplingConfig()
    seeds = count(chance.seed)  # of every draw another one

    def drawn(chat: Messages) -> str:
        sampled = chance.replace(seed=next(seeds))
        text: str = base.generate(chat, max_new_tokens=max_new_tokens, sampling=sampled)
        return text

    for i, prompt in enumerate(prompts):
        principle = principles[i % len(principles)]
        chat = messages_of(prompt)
        answer, critique, revision = drawn(chat), "", ""
        if answer.strip():
            chat = _goes_on(chat, answer, principle.critique)
            critique = drawn(chat)
        if critique.strip():
            revision = drawn(_goes_on(chat, critique, principle.revision))
        made = Revised(prompt, answer, critique, revision, 0.5)
        if made.usable:
            better = preferred(base, principle.question, prompt, answer, revision)
            made = replace(made, probability=better)
        yield made


def preferred(base: Base, question: str, prompt: str, first: str, second: str) -> float:
    """Return the probability that the second answer is better, the mean over both orders."""
    last = _probability_of_b(base, question, prompt, first, second)
    return (last + 1 - _probability_of_b(base, question, prompt, second, first)) / 2


def _probability_of_b(base: Base, question: str, prompt: str, first: str, second: str) -> float:
    """Return sigmoid(log p(B) - log p(A)) of the two letters as the answer to a question."""
    text = QUESTION.format(question=question, prompt=prompt, first=first, second=second)
    likelihoods = [_log_likelihood(base, messages_of(text), letter) for letter in (A, B)]
    return 1 / (1 + math.exp(likelihoods[0] - likelihoods[1]))


def _log_likelihood(base: Base, chat: Messages, answer: str) -> float:
    """Return the log-likelihood of an answer after a conversation, in nats."""
    space, codec = base.codec()
    try:
        given = base._begun(space, [Chat.of(chat)]).values[0].tolist()
        ids = [*given, *codec.encode(answer).values.tolist()]
    except ValueError as error:
        raise DataError(f"a prompt cannot be read: {error}") from None
    return sum(logprob for logprob, _ in prompt_logprobs(base, ids)[len(given) - 1 :])


def _goes_on(chat: Messages, answer: str, request: str) -> Messages:
    said = {"role": "assistant", "content": answer}
    return [*chat, said, {"role": "user", "content": request}]
