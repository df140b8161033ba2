"""Needle in a haystack: recall of something small, by its depth and the haystack's length.

Haystacks are held out: passages of texts of the validation side, with needles of words that no
training record has as needles; or rows of images reserved for testing. Of two needles in a text one
lies at the depth under test, and the question at the end is for it; of a row of images the one at
that depth is shown again. A text is recalled when every token of the value is the likeliest, an
image when it is the likeliest of those in the haystack.

The baselines are the same question where another needle lies at that depth and, for a run that
started from another model, that model: as it was, and with the positions of this run, before it was
trained with them.

Legend: B haystacks, N tokens, S tokens of an answer, K channels, M choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.codec import Codec
from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.sources import Record, SourceConfig
from broadbase.core.view import Segment, Stream, View, positions
from broadbase.data.identity import digest_of
from broadbase.data.sources.needles import (
    AlbumsConfig,
    NeedlesConfig,
    drawn,
    insert_needle,
    question,
)
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.induction import InductionConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load

FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the run's rows: lengths of a haystack
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HAYSTACKS, NEEDLES = 32, 2
ABSENT = "another needle at that depth"
INITIAL = "initial model"
INITIAL_MOVED = "initial model, positions of this run"
BITS = Metric("bits per needle, all lengths", "lower")

Ids = NDArray[Any]


@dataclass(frozen=True)
class Haystack:
    """A document up to the answer, the answer, and what it may be mistaken for."""

    values: Ids  # [N] or [N,K], the start first
    answer: Ids  # [S] or [S,K]
    choices: Ids | None = None  # [M,K], the answer first; None: any value


# haystack number, tokens in all, depth, whether the needle is there
Plant = Callable[[int, int, float, bool], Haystack]


@dataclass(frozen=True)
class Recall:
    """How a model answers every haystack at every length and depth."""

    lengths: tuple[int, ...]
    correct: NDArray[np.float64]  # [lengths, depths, haystacks] 0 or 1
    nats: NDArray[np.float64]  # [lengths, depths, haystacks] of the answer


def needles(run: Run, base: Base, _: ObjectiveConfig) -> Iterator[Comparison]:
    """Compare the recall of every source with needles, by length; intervals are over haystacks."""
    for source in run.config.data.sources:
        by_model = recalls(run, base, source)
        if not by_model:
            continue
        for i, length in enumerate(by_model[MODEL].lengths):
            metric = Metric(f"needle accuracy, {length} tokens", "higher")
            correct = {name: recall.correct[i].T.tolist() for name, recall in by_model.items()}
            yield from compare(source, metric, correct)
        bits = {
            name: (recall.nats.mean(axis=0).T / np.log(2)).tolist()
            for name, recall in by_model.items()
        }
        yield from compare(source, BITS, bits)


def recalls(run: Run, base: Base, source: str) -> dict[str, Recall]:
    """Return the recall of each model by its name; nothing where the source has no needles."""
    mixed = run.config.data.sources[source]
    space = mixed.modality
    plant = _plant(mixed.source, run, source, base.codecs[space])
    if plant is None:
        return {}
    lengths = tuple(round(fraction * mixed.row_length) for fraction in FRACTIONS)
    by_model = {
        MODEL: _recall(base, space, plant, lengths, True),
        ABSENT: _recall(base, space, plant, lengths, False),
    }
    initial = None if run.config.init_from is None else load(run.config.init_from)
    if initial is not None and space in initial.codecs:
        by_model[INITIAL] = _recall(initial, space, plant, lengths, True)
        if initial.config != base.config:
            model = base.config.build()
            model.load_state_dict(initial.model.state_dict())
            moved = replace(base, model=model.eval())
            by_model[INITIAL_MOVED] = _recall(moved, space, plant, lengths, True)
    return by_model


def _plant(source: SourceConfig, run: Run, name: str, codec: Codec) -> Plant | None:
    """Return how a haystack of this source is made; None where it has no needles."""
    if isinstance(source, NeedlesConfig):
        return Passages.of(source, run, name, codec)
    if isinstance(source, AlbumsConfig):
        return Images(source.shown(True), codec)
    return None


@dataclass(frozen=True)
class Passages:
    """Texts of the validation side with lines "- key value"."""

    texts: Sequence[str]  # their words, one text after another
    words: Sequence[str]  # of needles
    codec: Codec

    @classmethod
    def of(cls, source: NeedlesConfig, run: Run, name: str, codec: Codec) -> Passages:
        """Return the texts of a run whose passages are all held out."""
        sides = {
            side: {i[:16] for i in run.stores[name].ids(side)} for side in ("train", "validation")
        }
        groups = sides["validation"] - sides["train"]
        records = (r for r in source.source.records() if isinstance(r, Record))
        texts = [r.raw for r in records if digest_of(r.key or r.origin)[:8].hex() in groups]
        return cls(" ".join(texts).split(), source.words(True), codec)

    def __call__(self, number: int, tokens: int, depth: float, present: bool) -> Haystack:
        """Return as many words as fit, from the fraction number / HAYSTACKS of the texts on."""
        rng = np.random.default_rng(number)
        pairs = drawn(self.words, NEEDLES + 1, rng)
        (key, value), other = pairs[0], pairs[-1]
        lying = [pairs[0] if present else other, *pairs[1:-1]]
        depths = [depth, *rng.uniform(size=NEEDLES - 1)]
        first = number * len(self.texts) // HAYSTACKS
        text = list(islice(cycle(self.texts), first, first + tokens))
        query = self._ids(f"\n{question(key)}")
        answer = self._ids(f"\n{question(key)} {value}")[len(query) :]

        def rest(words: int) -> Ids:
            return self._ids("\n".join(insert_needle(text[:words], lying, depths)))

        room = tokens - 1 - len(query) - len(answer)
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if len(rest(middle)) <= room else (low, middle - 1)
        return Haystack(np.concatenate([self.codec.start[None], rest(low), query]), answer)

    def _ids(self, text: str) -> Ids:
        return self.codec.encode(text).values


@dataclass(frozen=True)
class Images:
    """Rows of images, one of them shown again at the end: what came after it is the answer."""

    images: NDArray[Any]
    codec: Codec

    def __call__(self, number: int, tokens: int, depth: float, present: bool) -> Haystack:
        """Return a row that begins alike at every length; images in it differ."""
        size = tokens - 3  # the start, the question and the answer
        order = np.random.default_rng(number).permutation(len(self.images))
        pair, row, others = order[:2], order[2:size], order[size : size + 2]
        at = round(depth * len(row))
        lying = [*row[:at], *(pair if present else others), *row[at:]]
        values = self.codec.encode(self.images[[*lying, pair[0]]]).values
        choices = self.codec.encode(self.images[[pair[1], pair[0], *row]]).values
        return Haystack(np.concatenate([self.codec.start[None], values]), choices[:1], choices)


def _recall(base: Base, space: str, plant: Plant, lengths: Sequence[int], present: bool) -> Recall:
    shape = (len(lengths), len(DEPTHS), HAYSTACKS)
    correct, nats = np.zeros(shape), np.zeros(shape)
    for i, length in enumerate(lengths):
        for j, depth in enumerate(DEPTHS):
            haystacks = [plant(n, length, depth, present) for n in range(HAYSTACKS)]
            correct[i, j], nats[i, j] = answers(base, space, haystacks)
    return Recall(tuple(lengths), correct, nats)


@torch.inference_mode()
def answers(base: Base, space: str, haystacks: Sequence[Haystack]) -> tuple[Any, Any]:
    """Return whether each answer is recalled, and its nats: [B] each."""
    correct, nats = np.zeros(len(haystacks)), np.zeros(len(haystacks))
    rows = [torch.from_numpy(np.concatenate([h.values, h.answer])) for h in haystacks]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # padding is never attended to
    position = positions((values.shape[1],)).expand(len(rows), -1, -1)
    stream = Stream("main", base.tower(space), (Segment(space, values, position),), "causal")
    hidden_BND = base.model(View((stream,))).streams["main"].x
    head = base.model.head(space)
    for b, haystack in enumerate(haystacks):
        first = len(haystack.values) - 1
        x_1SD = hidden_BND[b : b + 1, first : first + len(haystack.answer)]
        answer = torch.from_numpy(haystack.answer)[None]
        nats[b] = float(head.score(x_1SD, answer).sum())
        if haystack.choices is None:
            correct[b] = bool((head.predict(x_1SD).argmax(dim=-1) == answer).all())
        else:
            choices = torch.from_numpy(haystack.choices)[None]
            scores = head.score(x_1SD.expand(-1, choices.shape[1], -1), choices)
            correct[b] = float(scores.argmin() == 0)
    return correct, nats


MEASURE = Measure((CausalConfig, InductionConfig), needles)
