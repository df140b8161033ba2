"""Exact match of missing spans of held-out documents.

A span matches if each of its tokens is the likeliest one given the true tokens before it: that is
what greedy decoding would write.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Corruption, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.registry import Measure, without_targets
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.base import Base
from broadbase.objectives.denoising import (
    Denoising,
    InfillingConfig,
    SpanCorruptionConfig,
    even_spans,
    poisson_spans,
)
from broadbase.objectives.documents import Document, assemble, next_token_targets
from broadbase.objectives.fim import MARKS, FillInMiddleConfig, to_fim
from broadbase.run.run import Run

Spans = Sequence[tuple[int, int]]  # first token and length in the document
DOCUMENTS = 1000  # the most held-out documents that are evaluated
MIN_DOCUMENT = 8  # tokens of a document
MIDDLES, MAX_MIDDLE = 4, 4  # middles of a document, tokens of a middle
METRIC = Metric("exact match of spans", "higher")


def exact_spans(run: Run, base: Base, config: ObjectiveConfig) -> Iterator[Comparison]:
    """Compare exact matches with n-grams and, of fill-in-the-middle, with other prompts."""
    for source in run.config.data.sources:
        yield from _compare_source(run, base, config, source)


def _compare_source(
    run: Run, base: Base, config: ObjectiveConfig, source: str
) -> Iterator[Comparison]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    space = mixed.modality
    corrupt = run.config.model.modalities[space].corruption_of(run.codecs[space])
    puzzles = PUZZLES[type(config)](config, space, corrupt)
    seen = chunks(collate(run.seen(source), space, validation.plain))
    size = corrupt.sentinels.start or int(max(text.max() for text in seen)) + 1
    grams = {
        "unigram": KneserNey.fit(seen, 1, size),
        "5-gram, rows seen": KneserNey.fit(seen, 5, size),
    }
    scores: dict[str, list[list[bool]]] = {}
    tested = (c for s in held_out(validation, space, mixed.batch_size) for c in chunks(s))
    for number, text in enumerate([t for t in tested if len(t) >= MIN_DOCUMENT][:DOCUMENTS]):
        values = torch.from_numpy(text)
        document = Document(values, torch.ones(len(values)))
        spans, views = puzzles.of(document, KeyedRandom(0, 0).generator("restore", number))
        matches = {MODEL: [_matches(base, view) for view in views]}
        for name, gram in grams.items():
            matches[name] = [_gram_matches(gram, text, *span) for span in spans]
        for name, prompts in puzzles.other_prompts(document, spans).items():
            matches[f"same model, {name}"] = [_matches(base, view) for view in prompts]
        for name, right in matches.items():
            scores.setdefault(name, []).append(right)
    yield from compare(source, METRIC, scores)


@torch.inference_mode()
def _matches(base: Base, view: View) -> bool:
    """Return whether every token that the view scores is the likeliest."""
    (score,) = view.scored
    predictions = base.model(without_targets(view)).predictions["p"]
    return bool((predictions.argmax(dim=-1) == score.target).all())


def _gram_matches(gram: KneserNey, text: NDArray[Any], first: int, length: int) -> bool:
    return all(
        int(gram.following(text[:token]).argmax()) == text[token]
        for token in range(first, first + length)
    )


class Puzzles(ABC):
    """How an objective asks a model for the missing spans of a document."""

    def __init__(self, config: Any, space: str, corrupt: Corruption) -> None:
        """Take the objective's config, the space of the documents and its corruption."""
        self.config, self.space, self.corrupt = config, space, corrupt

    @abstractmethod
    def of(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """Return the spans, and for each a view of one row with one readout of its tokens."""

    def other_prompts(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """Return views with other prompts for the same spans, by name; by default none."""
        return {}

    def row(self, document: Document) -> Segment:
        """Return a row of one document."""
        return assemble(self.space, [[document]], len(document))

    def readout(self, tokens: Sequence[int], values: torch.Tensor) -> Score:
        """Return a readout of some tokens of a causal stream, each from the one before it."""
        index = torch.tensor([tokens]) - 1
        return Score(self.space, "p", values[None, list(tokens)], torch.ones(index.shape), index)


class Middles(Puzzles):
    """Fill-in-the-middle: the middle follows prefix and suffix, in either order."""

    config: FillInMiddleConfig

    def of(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """Return random middles, each prompted by the suffix before the prefix."""
        n, spans = len(document), []
        for _ in range(MIDDLES):
            length = int(rng.integers(1, MAX_MIDDLE + 1))
            spans.append((int(rng.integers(1, n - length)), length))
        return spans, [self._view(document, span, suffix_first=True) for span in spans]

    def other_prompts(self, document: Document, spans: Spans) -> dict[str, list[View]]:
        """Return the middles with the prefix first, and without the suffix."""
        return {
            "prefix first": [self._view(document, span, suffix_first=False) for span in spans],
            "prefix only": [self._causal(document, range(a, a + n)) for a, n in spans],
        }

    def _view(self, document: Document, span: tuple[int, int], *, suffix_first: bool) -> View:
        """Return the to_fim document with a readout of its middle."""
        (first, length), last = span, len(document) - 1
        marks = self.corrupt.sentinels[:MARKS]
        moved = to_fim(document, first, first + length, last, marks, suffix_first=suffix_first)
        end = len(moved) - (len(document) - last)
        return self._causal(moved, range(end - length, end))

    def _causal(self, document: Document, tokens: range) -> View:
        """Return one causal stream with a readout of some of its tokens."""
        inputs, _, _ = next_token_targets(self.row(document))
        readout = self.readout(tokens, document.values)
        return View((Stream("main", self.config.tower, (inputs,), "causal", readouts=(readout,)),))


class EncoderDecoder(Puzzles):
    """An encoder reads the document with its spans missing, a decoder predicts them."""

    def decoded(self, inputs: Document, outputs: Document, tokens: range) -> View:
        """Return the encoder's stream, and the decoder's with a readout of some of its tokens."""
        shifted_right, _, _ = next_token_targets(self.row(outputs))
        readouts = (self.readout(tokens, outputs.values),)
        encoder = Stream("encoder", self.config.encoder, (self.row(inputs),))
        tower = self.config.decoder
        decoder = Stream("decoder", tower, (shifted_right,), "causal", "encoder", readouts=readouts)
        return View((encoder, decoder))

    def pair(
        self, objective: Denoising, document: Document, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        """Return the documents that the encoder reads and that the decoder predicts."""
        return objective.pair(document, self.corrupt, self.row(document), rng)


class Sentinels(EncoderDecoder):
    """T5: the decoder predicts span after span, each after its sentinel."""

    config: SpanCorruptionConfig

    def of(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """Return the spans that the objective draws, each after its sentinel."""
        state = rng.bit_generator.state
        c = self.config
        spans = [
            (a + 1, n) for a, n in even_spans(len(document) - 1, c.mask_ratio, c.mean_span, rng)
        ]
        rng.bit_generator.state = state  # so that the objective draws the same spans
        inputs, outputs = self.pair(c.build(), document, rng)
        views, at = [], 1
        for _, length in spans:
            views.append(self.decoded(inputs, outputs, range(at + 1, at + 1 + length)))
            at += 1 + length
        return spans, views


class Holes(EncoderDecoder):
    """BART: the decoder predicts the entire document; spans of length 0 ask for nothing."""

    config: InfillingConfig

    def of(self, document: Document, rng: np.random.Generator) -> tuple[Spans, list[View]]:
        """Return the spans that the objective draws, without its permutation of sentences."""
        state = rng.bit_generator.state
        c = self.config.replace(permute_ratio=0.0)
        spans = [
            (a + 1, n)
            for a, n in poisson_spans(len(document) - 1, c.mask_ratio, c.mean_span, rng)
            if n
        ]
        rng.bit_generator.state = state
        inputs, outputs = self.pair(c.build(), document, rng)
        return spans, [self.decoded(inputs, outputs, range(a, a + n)) for a, n in spans]


PUZZLES: dict[type[ObjectiveConfig], Callable[[Any, str, Corruption], Puzzles]] = {
    FillInMiddleConfig: Middles,
    SpanCorruptionConfig: Sentinels,
    InfillingConfig: Holes,
}


MEASURE = Measure(tuple(PUZZLES), exact_spans)
