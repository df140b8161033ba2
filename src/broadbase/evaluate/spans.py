"""Restoring missing spans of held-out documents, told exactly.

A span counts as told if each of its places is the likeliest one given the true places before it:
that is what greedy decoding would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Corruption, ObjectiveConfig
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Read, Segment, Stream, View
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.base import Base
from broadbase.objectives.denoising import InfillingConfig, SpanCorruptionConfig, even_spans
from broadbase.objectives.denoising import poisson_spans as poisson
from broadbase.objectives.documents import Document, assemble, shifted
from broadbase.objectives.fim import MARKS, FillInMiddleConfig, rearranged
from broadbase.run.run import Run

Spans = Sequence[tuple[int, int]]  # first place and length in the document
DOCUMENTS = 1000  # held-out ones that are looked at, the first
SHORTEST, LONGEST, MIDDLES = 8, 4, 4  # places of a document, of a middle; middles of a document


class Puzzles(Protocol):
    """How an objective asks for the spans of a document."""

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """The spans, and for each a view with one Read of its places, one row, targets given."""
        ...

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """Other ways to ask the same base for them, to compare with."""
        ...


def spans(run: Run, base: Base) -> Iterator[Measured]:
    """The held-out spans of every source that are told exactly, beside n-grams."""
    for source in run.config.data.sources:
        yield from _spans(run, base, source)


def _spans(run: Run, base: Base, source: str) -> Iterator[Measured]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    space = mixed.modality
    corrupt = run.config.model.modalities[space].corruption_of(run.codecs[space])
    puzzles = PUZZLES[run.config.objective.name](run.config.objective, space, corrupt)
    texts = chunks(collate(run.seen(source), space, validation.plain))
    size = corrupt.marks.start or int(max(text.max() for text in texts)) + 1
    grams = {
        "unigram": KneserNey.fit(texts, 1, size),
        "5-gram, rows seen": KneserNey.fit(texts, 5, size),
    }
    found: dict[str, list[list[bool]]] = {}
    held = (c for s in held_out(validation, space, mixed.rows) for c in chunks(s))
    wanted = [text for text in held if len(text) >= SHORTEST][:DOCUMENTS]
    for number, text in enumerate(wanted):
        values = torch.from_numpy(text)
        document = Document(values, torch.ones(len(values)))
        spans, views = puzzles(document, Draws(0, 0).generator("restore", number))
        told: dict[str, list[bool]] = {"base": [_told(base, view) for view in views]}
        for name, gram in grams.items():
            told[name] = [_likeliest(gram, text, *span) for span in spans]
        for name, other in puzzles.others(document, spans).items():
            told[f"base, {name}"] = [_told(base, view) for view in other]
        for name, right in told.items():
            found.setdefault(name, []).append(right)
    yield from compared(source, "exact spans", found)


@torch.inference_mode()
def _told(base: Base, view: View) -> bool:
    """Whether every place that the view's one Read asks for is the likeliest."""
    (read,) = view.reads
    predicted = base.model(asked(view)).predictions["p"]
    assert read.values is not None
    return bool((predicted.argmax(dim=-1) == read.values).all())


def _likeliest(gram: KneserNey, text: NDArray[Any], first: int, length: int) -> bool:
    return all(
        int(gram.following(text[:place]).argmax()) == text[place]
        for place in range(first, first + length)
    )


class _Spans:
    def __init__(self, config: ObjectiveConfig, space: str, corrupt: Corruption) -> None:
        self.config: Any = config
        self.space, self.corrupt = space, corrupt

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """None."""
        return {}

    def one(self, document: Document) -> Segment:
        """A row of one document."""
        return assemble(self.space, [[document]], places=len(document))

    def read(self, places: Sequence[int], values: torch.Tensor) -> Read:
        """The targets at some places of a causal stream, each read one place before."""
        index = torch.tensor([places]) - 1
        return Read(self.space, "p", values[None, list(places)], torch.ones(index.shape), index)


class Middles(_Spans):
    """FIM: prefix and suffix are given, the middle follows; suffix first, or prefix first."""

    config: FillInMiddleConfig

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        n, spans = len(document), []
        for _ in range(MIDDLES):
            length = int(rng.integers(1, LONGEST + 1))
            spans.append((int(rng.integers(1, n - length)), length))
        return spans, [self.view(document, span, suffix_first=True) for span in spans]

    def others(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """With the prefix before the suffix, and without the suffix."""
        return {
            "prefix first": [self.view(document, span, suffix_first=False) for span in spans],
            "prefix only": [self.causal(document, range(a, a + n)) for a, n in spans],
        }

    def view(self, document: Document, span: tuple[int, int], *, suffix_first: bool) -> View:
        """The document rearranged, its middle read."""
        (first, length), last = span, len(document) - 1
        marks = self.corrupt.marks[:MARKS]
        moved = rearranged(document, first, first + length, last, marks, suffix_first=suffix_first)
        end = len(moved) - (len(document) - last)
        return self.causal(moved, range(end - length, end))

    def causal(self, document: Document, places: range) -> View:
        """One stream, some of its places read."""
        seen, _, _ = shifted(self.one(document))
        read = self.read(places, document.values)
        return View((Stream("main", self.config.tower, (seen,), "causal", reads=(read,)),))


class Sentinels(_Spans):
    """T5: the decoder tells span after span, each after its mark."""

    config: SpanCorruptionConfig

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        state = rng.bit_generator.state
        c = self.config
        spans = [(a + 1, n) for a, n in even_spans(len(document) - 1, c.share, c.mean, rng)]
        rng.bit_generator.state = state  # the same spans once more, as the objective draws them
        given, told = c.build().pair(document, self.corrupt, self.one(document), rng)
        views, at = [], 1
        for _, length in spans:
            views.append(self.decoded(given, told, range(at + 1, at + 1 + length)))
            at += 1 + length
        return spans, views

    def decoded(self, given: Document, told: Document, places: range) -> View:
        """The encoder's stream, and the decoder's with some of its places read."""
        seen, _, _ = shifted(self.one(told))
        read = self.read(places, told.values)
        c = self.config
        encoder = Stream("encoder", c.encoder, (self.one(given),))
        return View(
            (encoder, Stream("decoder", c.decoder, (seen,), "causal", "encoder", reads=(read,)))
        )


class Holes(Sentinels):
    """BART: the decoder tells the whole document; its spans of length 0 ask nothing."""

    def __call__(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        state = rng.bit_generator.state
        c = self.config.model_copy(update={"permuted": 0.0})  # its holes alone
        spans = [(a + 1, n) for a, n in poisson(len(document) - 1, c.share, c.mean, rng) if n]
        rng.bit_generator.state = state
        given, told = c.build().pair(document, self.corrupt, self.one(document), rng)
        return spans, [self.decoded(given, told, range(a, a + n)) for a, n in spans]


PUZZLES: dict[str, Callable[[ObjectiveConfig, str, Corruption], Puzzles]] = {
    FillInMiddleConfig().name: Middles,
    SpanCorruptionConfig().name: Sentinels,
    InfillingConfig().name: Holes,
}


MEASURE = Measure((FillInMiddleConfig, SpanCorruptionConfig, InfillingConfig), spans)
