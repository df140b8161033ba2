"""A needle in a haystack: what is told of something small, by its depth and the haystack's length.

Haystacks are held-out: passages of texts of the validation side, with needles of words that no
record for training has as needles; or rows of pictures kept for testing. Of two needles in a text
one lies at the depth that is measured and is asked for at the end; of a row of pictures one there
is shown again. A text is told when every place of the value is the likeliest, a picture when it is
the likeliest of those in the haystack.

Beside it stand the same question where another needle lies in the place of the one asked for, and,
of a run that started from a base, that base: as it was, and with the positions of this run, before
it was trained on with them.

Legend: B haystacks, N places, S places of an answer, K channels, M choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Codec, Record, SourceConfig
from broadbase.core.view import Segment, Stream, View, positions
from broadbase.data.sources.needles import AlbumsConfig, NeedlesConfig, drawn, planted, question
from broadbase.data.store.shards import digest_of
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.inference.base import Base
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.induction import RecallConfig
from broadbase.run.run import Run
from broadbase.weights.folder import base_at

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the run's rows: lengths of a haystack
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HAYSTACKS, NEEDLES = 32, 2
ABSENT = "another needle in its place"

Ids = NDArray[Any]


@dataclass(frozen=True)
class Haystack:
    """A document up to the answer, the answer, and what it may be mistaken for."""

    values: Ids  # [N] or [N,K], the start first
    answer: Ids  # [S] or [S,K]
    choices: Ids | None = None  # [M,K], the answer first; None: any value


# haystack number, places in all, depth, whether the needle is there
Plant = Callable[[int, int, float, bool], Haystack]


@dataclass(frozen=True)
class Told:
    """What a base tells of every haystack i at every length and depth."""

    lengths: tuple[int, ...]
    right: NDArray[np.float64]  # [lengths, depths, haystacks] 0 or 1
    nats: NDArray[np.float64]  # of the answer


def needles(run: Run, base: Base) -> Iterator[Measured]:
    """Every source with needles, by length; the interval is over haystacks."""
    for source in run.config.data.sources:
        found = told(run, base, source)
        lengths = found["base"].lengths if found else ()
        for i, length in enumerate(lengths):
            right = {name: each.right[i].T.tolist() for name, each in found.items()}
            yield from compared(source, f"needles told, {length} places", right)
        if found:
            bits = {name: each.nats.mean(axis=0).T / np.log(2) for name, each in found.items()}
            named = {name: each.tolist() for name, each in bits.items()}
            yield from compared(source, "bits of a needle, all lengths", named)


def told(run: Run, base: Base, source: str) -> dict[str, Told]:
    """What each base tells, by its name, "base" first; nothing where the source has no needles."""
    mixed = run.config.data.sources[source]
    space = mixed.modality
    plant = _plant(mixed.source, run, source, base.codecs[space])
    if plant is None:
        return {}
    lengths = tuple(round(share * mixed.length) for share in SHARES)
    found = {
        "base": _grid(base, space, plant, lengths, True),
        ABSENT: _grid(base, space, plant, lengths, False),
    }
    if run.config.start is not None:
        before = base_at(run.config.start)
    if run.config.start is not None and space in before.codecs:
        found["the base it started from"] = _grid(before, space, plant, lengths, True)
        if before.config != base.config:
            changed = base.config.build()
            changed.load_state_dict(before.model.state_dict())
            there = replace(base, model=changed.eval())
            found["that base, its positions changed"] = _grid(there, space, plant, lengths, True)
    return found


def _plant(source: SourceConfig, run: Run, name: str, codec: Codec) -> Plant | None:
    """How a haystack of this source is made; None where it has no needles."""
    if isinstance(source, NeedlesConfig):
        return Passages.of(source, run, name, codec)
    if isinstance(source, AlbumsConfig):
        return Pictures(source.shown(True), codec)
    return None


@dataclass(frozen=True)
class Passages:
    """Texts of the validation side with lines "- key value"."""

    texts: Sequence[str]  # their words, one text after another
    words: Sequence[str]  # of needles
    codec: Codec

    @classmethod
    def of(cls, source: NeedlesConfig, run: Run, name: str, codec: Codec) -> Passages:
        """Those of a run whose passages are all held out."""
        sides = {
            side: {id[:16] for id in run.stores[name].ids(side)} for side in ("train", "validation")
        }
        held = sides["validation"] - sides["train"]
        records = (r for r in source.source.records() if isinstance(r, Record))
        whole = [r.raw for r in records if digest_of(r.key or r.place)[:8].hex() in held]
        texts = " ".join(whole).split()
        return cls(texts, source.words(True), codec)

    def __call__(self, number: int, places: int, depth: float, there: bool) -> Haystack:
        """As many words as fit, from share number / HAYSTACKS of the texts on."""
        rng = np.random.default_rng(number)
        pairs = drawn(self.words, NEEDLES + 1, rng)
        (key, value), other = pairs[0], pairs[-1]
        lying = [pairs[0] if there else other, *pairs[1:-1]]
        depths = [depth, *rng.uniform(size=NEEDLES - 1)]
        first = number * len(self.texts) // HAYSTACKS
        text = list(islice(cycle(self.texts), first, first + places))
        asked = self._ids(f"\n{question(key)}")
        answer = self._ids(f"\n{question(key)} {value}")[len(asked) :]

        def rest(words: int) -> Ids:
            return self._ids("\n".join(planted(text[:words], lying, depths)))

        room = places - 1 - len(asked) - len(answer)
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if len(rest(middle)) <= room else (low, middle - 1)
        return Haystack(np.concatenate([self.codec.start[None], rest(low), asked]), answer)

    def _ids(self, text: str) -> Ids:
        return self.codec.encode(text).values


@dataclass(frozen=True)
class Pictures:
    """Rows of pictures, one of them shown again at the end: what came after it is the answer."""

    pictures: NDArray[Any]
    codec: Codec

    def __call__(self, number: int, places: int, depth: float, there: bool) -> Haystack:
        """The row of a number begins alike at every length; pictures in it differ."""
        size = places - 3  # the start, the question and the answer
        order = np.random.default_rng(number).permutation(len(self.pictures))
        pair, row, others = order[:2], order[2:size], order[size : size + 2]
        at = round(depth * len(row))
        lying = [*row[:at], *(pair if there else others), *row[at:]]
        values = self.codec.encode(self.pictures[[*lying, pair[0]]]).values
        choices = self.codec.encode(self.pictures[[pair[1], pair[0], *row]]).values
        return Haystack(np.concatenate([self.codec.start[None], values]), choices[:1], choices)


def _grid(base: Base, space: str, plant: Plant, lengths: Sequence[int], there: bool) -> Told:
    shape = (len(lengths), len(DEPTHS), HAYSTACKS)
    right, nats = np.zeros(shape), np.zeros(shape)
    for i, length in enumerate(lengths):
        for j, depth in enumerate(DEPTHS):
            haystacks = [plant(n, length, depth, there) for n in range(HAYSTACKS)]
            right[i, j], nats[i, j] = answers(base, space, haystacks)
    return Told(tuple(lengths), right, nats)


@torch.inference_mode()
def answers(base: Base, space: str, haystacks: Sequence[Haystack]) -> tuple[Any, Any]:
    """Whether each answer is told, and its nats: [B] each."""
    right, nats = np.zeros(len(haystacks)), np.zeros(len(haystacks))
    rows = [torch.from_numpy(np.concatenate([h.values, h.answer])) for h in haystacks]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # what is later is not seen
    place = positions((values.shape[1],)).expand(len(rows), -1, -1)
    stream = Stream("main", base.tower(space), (Segment(space, values, place),), "causal")
    hidden_BND = base.model(View((stream,))).streams["main"].x
    there: Any = base.model.spaces[space]
    for b, haystack in enumerate(haystacks):
        first = len(haystack.values) - 1
        x_1SD = hidden_BND[b : b + 1, first : first + len(haystack.answer)]
        answer = torch.from_numpy(haystack.answer)[None]
        nats[b] = float(there.score(x_1SD, answer).sum())
        if haystack.choices is None:
            right[b] = bool((there.predict(x_1SD).argmax(dim=-1) == answer).all())
        else:
            choices = torch.from_numpy(haystack.choices)[None]
            scores = there.score(x_1SD.expand(-1, choices.shape[1], -1), choices)
            right[b] = float(scores.argmin() == 0)
    return right, nats


MEASURE = Measure((CausalConfig, RecallConfig), needles)
