"""How likely a base holds answers to be after prompts, for classification without training.

Legend: M prompts, K answers of each, B rows, T tokens, S tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.usage import ConditioningConfig
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.inference.documents import document, must_fit, unreadable
from broadbase.inference.embedding import ROWS
from broadbase.inference.linear import packed
from broadbase.inference.reader import Reader
from broadbase.nn.cache import Cache

BYTES = 2**28  # of keys and values that are kept at once
MOST_ROWS = 64  # prompts that are read side by side

Ids = tuple[int, ...]


class AnswerLogprobs(NamedTuple):
    """The natural log-probability of each answer after each prompt, and its number of tokens."""

    logprobs: NDArray[np.float64]  # [M,K]
    tokens: NDArray[np.int64]  # [M,K]


class Continued(NamedTuple):
    """The ids of a prompt, and those that each answer adds to it."""

    prompt: Ids  # those that all answers have in common, at least one
    answers: tuple[Ids, ...]  # the ids after these
    first: tuple[int, ...]  # the first id of each answer that is not of the prompt


@dataclass(frozen=True, repr=False)
class Scoring(Reader):
    """A base's log-probabilities of answers."""

    def scoring_refusal(self, modality: str | None = None) -> str:
        """Say why the base cannot score answers after prompts; empty where it can."""
        space, codec = self.codec(modality)
        conditioning = self.usage.conditioning
        target = space if conditioning is None else conditioning.target or space
        if conditioning is not None and not conditioning.batched:
            return (
                f"this base writes what is missing ({conditioning.name}), and continues no prompt"
            )
        if conditioning is None and self.attention_pattern(space) != "causal":
            return (
                f"this base was pretrained with attention {self.attention_pattern(space)!r}, and"
                " continues no prompt; take one that does, as of recipe text"
            )
        if codec.start.ndim:
            return f"values of modality {space!r} are no ids, so that they continue no prompt"
        if getattr(self.model.towers[self.tower(target)], "registers", None) is not None:
            return "this base has registers, so that it reads complete records only"
        try:
            self.model.head(target)
        except ConfigError as error:
            return str(error)
        return ""

    def score_answers(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        modality: str | None = None,
        prefix: Segment | None = None,
    ) -> AnswerLogprobs:
        """Return how likely each of the answers is as the continuation of each prompt.

        A prompt and an answer are encoded together, and the ids that the answer changes or adds are
        scored. What all prompts begin with is read once, and a prompt once for all answers.
        `prefix` [1,P] is read before each prompt. ConfigError where the base cannot score answers,
        DataError where a prompt is too long, or an answer adds no token.
        """
        if reason := self.scoring_refusal(modality):
            raise ConfigError(reason)
        shape = len(prompts), len(answers)
        result = AnswerLogprobs(np.zeros(shape), np.zeros(shape, np.int64))
        if self.usage.conditioning is not None:
            conditioned = self._conditioned_scores(prompts, answers, self.usage.conditioning)
            for i, (logprobs, tokens) in enumerate(conditioned):
                result.logprobs[i], result.tokens[i] = logprobs, tokens
            return result
        space = self.codec(modality)[0]
        rows = [self.answer_ids(space, prompt, answers) for prompt in prompts]
        for chosen, logprobs in _continuation_scores(self, space, rows, prefix):
            result.logprobs[chosen] = logprobs
        for i, row in enumerate(rows):
            pairs = zip(row.answers, row.first, strict=True)
            result.tokens[i] = [len(answer) - first for answer, first in pairs]
        return result

    def count_tokens(self, text: str, modality: str | None = None) -> int:
        """Return how many tokens a text has, without the start of a record."""
        space, codec = self.codec(modality)
        return len(codec.encode(self.config.modalities[space].clean_prefix(text)).values)

    def answer_ids(self, space: str, prompt: str, answers: Sequence[str]) -> Continued:
        """Return the ids of a prompt with each answer; special tokens in them are data.

        DataError where an answer adds none.
        """
        before = self._text_ids(space, prompt)
        rows = [self._text_ids(space, prompt + answer) for answer in answers]
        alike = [_alike(before, row) for row in rows]
        for answer, row, count in zip(answers, rows, alike, strict=True):
            if len(row) == count:
                raise DataError(f"the answer {answer!r} adds no token to a prompt; give another")
        if not min(alike):  # no start stands before the prompt: there is one now
            start = int(self.codecs[space].start)
            return Continued((start,), tuple(rows), tuple(alike))
        n = min(alike)
        return Continued(before[:n], tuple(r[n:] for r in rows), tuple(a - n for a in alike))

    def _text_ids(self, space: str, text: str) -> Ids:
        codec, kind = self.codecs[space], self.config.modalities[space]
        with unreadable(0, space, [name for name in self.codecs if name != space]):
            return tuple(document(codec, kind.clean_prefix(text), closed=False)[0].tolist())

    @torch.inference_mode()
    def _conditioned_scores(
        self, prompts: Sequence[str], answers: Sequence[str], conditioning: ConditioningConfig
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield log-probabilities and tokens [K] by a base that is given its prompt apart."""
        source = conditioning.source or self.codec()[0]
        target = conditioning.target or source
        device = next(self.model.parameters()).device
        begun = self._begun(target, answers).to(device)
        T = begun.position.shape[1]
        real_KT = torch.ones_like(begun.values, dtype=torch.bool)
        if begun.document is not None:
            real_KT = begun.document >= 0
        for number, prompt in enumerate(prompts):
            rows = [prompt] * len(answers)
            given = self.read(rows, modality=source, closed=conditioning.closed, first=number)
            view = conditioning.prompt(given.to(device), begun)
            last = view.streams[-1]
            before = sum(segment.position.shape[1] for segment in last.segments) - T
            index = (before + torch.arange(T - 1, device=device)).expand(len(answers), -1)
            reads = (Predict(target, "logits", index),)
            stream = Stream(last.name, last.tower, last.segments, last.pattern, last.context, reads)
            logits_KTV = self.model(View((*view.streams[:-1], stream))).predictions["logits"]
            logprob_KT = _logprobs(logits_KTV, begun.values[:, 1:]) * real_KT[:, 1:]
            yield logprob_KT.sum(1).double().cpu().numpy(), real_KT[:, 1:].sum(1).cpu().numpy()


def _continuation_scores(
    base: Reader, space: str, rows: Sequence[Continued], prefix: Segment | None
) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
    """Yield the numbers of some rows, and the log-probabilities of their answers [B,K]."""
    if not rows:
        return
    shared = min(len(rows[0].prompt), *(_alike(rows[0].prompt, row.prompt) for row in rows))
    shared = min(shared, *(len(row.prompt) - 1 for row in rows), len(rows[0].prompt) - 1)
    before = 0 if prefix is None else prefix.position.shape[1]
    sizes = [len(row.prompt) + max(map(len, row.answers)) for row in rows]
    must_fit(space, base.config.max_length(space), before + max(sizes) - 1)
    reading = _Reading(base, space)
    beginning = reading.begin(rows[0].prompt[:shared], prefix)
    order = sorted(range(len(rows)), key=lambda i: -sizes[i])
    room = BYTES // base.token_bytes(base.tower(space)) // len(rows[0].answers)
    while order:
        count = min(MOST_ROWS, max(1, room // (before + sizes[order[0]])))
        chosen, order = order[:count], order[count:]
        some = [rows[i] for i in chosen]
        yield chosen, reading.scores(beginning.repeated(len(some)), some, shared)


class _Reading:
    """Passes of a causal tower that go on from what it has read."""

    def __init__(self, base: Reader, space: str) -> None:
        self.space, self.tower = space, base.tower(space)
        self.model = packed(base.model, ROWS)
        self.device = next(base.model.parameters()).device
        self.offset = 0  # tokens before the ids

    @torch.inference_mode()
    def begin(self, ids: Ids, prefix: Segment | None) -> Cache:
        """Return what is read of the ids that all rows share, after a prefix; one row."""
        tower: Any = self.model.towers[self.tower]
        cache, segments = Cache(len(tower.blocks)), list[Segment]()
        if prefix is not None:
            self.offset = prefix.position.shape[1]
            segments.append(prefix.to(self.device))
        if ids:
            segments.append(self._segment([ids], [self.offset]))
        if segments:
            self.model(self._view(segments), caches={"main": cache})
        return cache

    @torch.inference_mode()
    def scores(self, cache: Cache, rows: Sequence[Continued], shared: int) -> NDArray[np.float64]:
        """Return the log-probabilities [B,K] of answers of rows, of which `shared` ids are read.

        The cache has a row for each, and is used up.
        """
        prompts = [row.prompt[shared:] for row in rows]
        K = len(rows[0].answers)
        index_B1 = torch.tensor([[len(ids) - 1] for ids in prompts], device=self.device)
        start = self.offset + shared
        next_B1V = self._logits(cache, prompts, [start] * len(rows), index_B1)
        flat = [answer for row in rows for answer in row.answers]
        first = torch.tensor([f for row in rows for f in row.first], device=self.device)
        ids_RA = _padded(flat).to(self.device)  # R rows: B*K
        length_R1 = torch.tensor([[len(answer)] for answer in flat], device=self.device)
        logits = [next_B1V.repeat_interleave(K, dim=0)]
        if ids_RA.shape[1] > 1:
            ends = [start + len(ids) for ids in prompts for _ in range(K)]
            given = [answer[:-1] or answer[:1] for answer in flat]
            logits.append(self._logits(cache.repeated(K), given, ends))
        logprob_RA = torch.cat([
            _logprobs(part, ids_RA[:, a : a + part.shape[1]])
            for part, a in zip(logits, (0, 1), strict=False)
        ], dim=1)  # fmt: skip
        index_A = torch.arange(ids_RA.shape[1], device=self.device)
        counts_RA = (index_A < length_R1) & (index_A >= first[:, None])
        total_R = logprob_RA.double().masked_fill(~counts_RA, 0.0).sum(dim=1)
        return total_R.view(len(rows), K).cpu().numpy()

    def _logits(
        self, cache: Cache, rows: Sequence[Ids], starts: Sequence[int], index: Tensor | None = None
    ) -> Tensor:
        """Read rows of ids and return the logits at `index`, or at all of them, [B,T,V]."""
        view = self._view([self._segment(rows, starts)], Predict(self.space, "next", index))
        logits: Tensor = self.model(view, caches={"main": cache}).predictions["next"]
        return logits

    def _view(self, segments: Sequence[Segment], *reads: Predict) -> View:
        return View((Stream("main", self.tower, tuple(segments), "causal", readouts=reads),))

    def _segment(self, rows: Sequence[Ids], starts: Sequence[int]) -> Segment:
        """Return rows of ids, each from a position of its own, padded at their ends."""
        values_BT = _padded(rows)
        length_B1 = torch.tensor([[len(row)] for row in rows])
        real_BT = torch.arange(values_BT.shape[1]) < length_B1
        order_BT = torch.tensor(starts)[:, None] + torch.arange(values_BT.shape[1])
        order_BT = order_BT.where(real_BT, 0)
        document_BT = torch.where(real_BT, 0, -1)
        position = order_BT[..., None].expand(-1, -1, 3)
        segment = Segment(self.space, values_BT, position, order_BT, document_BT)
        return segment.to(self.device)


def _padded(rows: Sequence[Ids]) -> Tensor:
    """Return rows of ids as one tensor, with 0 after the end of shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _logprobs(logits_RTV: Tensor, ids_RT: Tensor) -> Tensor:
    """Return the log-probability of each id [R,T]."""
    logits_RTV = logits_RTV.float()
    chosen_RT = logits_RTV.gather(-1, ids_RT[..., None])[..., 0]
    return chosen_RT - logits_RTV.logsumexp(dim=-1)


def _alike(first: Ids, second: Ids) -> int:
    """Return how many ids two rows have in common from their beginning."""
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
