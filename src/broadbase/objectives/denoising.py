"""Denoising: an encoder reads a document with spans missing, a decoder tells what was there.

Span corruption (T5; Raffel et al. 2020, 3.1.4): each span becomes one mark; the decoder tells mark
and span by turns, and one mark more at the end. Text infilling (BART; Lewis et al. 2020, 2.2): each
span becomes one hidden place, spans of length 0 included, sentences may change places; the decoder
tells the whole document.
Packed documents stay apart, in the encoder, in the decoder and between them.

Legend: n places of a document, k spans.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.core.contracts import Batch, Corruption, ObjectiveConfig, TowerName
from broadbase.core.usage import ConditioningConfig, DataFacts, Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.autoregressive import AutoregressiveConfig
from broadbase.inference.conditioning import (
    InfillingConditioningConfig,
    SentinelConditioningConfig,
)
from broadbase.objectives.documents import (
    Document,
    assemble,
    documents,
    next_token_targets,
    sentinel_ids,
)
from broadbase.objectives.masks import masking_units
from broadbase.objectives.scoring import ReadoutLoss

Spans = Sequence[tuple[int, int]]  # first place and length of each, in order, apart


class DenoisingConfig(ObjectiveConfig):
    """What both have; not a choice by itself."""

    encoder: TowerName = "encoder"  # towers
    decoder: TowerName = "decoder"

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that reads a document's beginning and generates from it."""
        return Usage(
            attention=self.pattern,
            generator=AutoregressiveConfig(),
            conditioning=self.conditioning(facts),
            grids=dict(facts.grids),
        )

    @abstractmethod
    def conditioning(self, facts: DataFacts) -> ConditioningConfig:
        """Return how the beginning of a document is given."""

    @abstractmethod
    def build(self) -> Denoising:
        """Return the objective."""


class SpanCorruptionConfig(DenoisingConfig):
    """T5's objective."""

    name: Literal["span_corruption"] = "span_corruption"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of the places of a document
    mean_span: Annotated[float, Field(ge=1)] = 3.0  # places a span

    def conditioning(self, facts: DataFacts) -> ConditioningConfig:
        """Return the conditioning in which the rest of a document is the one span missing."""
        first = {name: ids[0] for name, ids in facts.sentinels.items() if len(ids)}
        return SentinelConditioningConfig(
            encoder=self.encoder, decoder=self.decoder, sentinels=first
        )

    def build(self) -> Denoising:
        return SpanCorruption(self)


class InfillingConfig(DenoisingConfig):
    """BART's text infilling, and its sentence permutation."""

    name: Literal["infilling"] = "infilling"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3
    mean_span: Annotated[float, Field(ge=0.5)] = 3.0  # of the Poisson distribution of lengths
    permute_ratio: Annotated[float, Field(ge=0, le=1)] = (
        0.0  # of the sentences, before that; BART: 1
    )

    def conditioning(self, facts: DataFacts) -> ConditioningConfig:
        """Return the conditioning in which the decoder repeats a document and continues it."""
        return InfillingConditioningConfig(encoder=self.encoder, decoder=self.decoder)

    def build(self) -> Denoising:
        return Infilling(self)


class Denoising(ReadoutLoss):
    """Two streams a source: `encoder`, and `decoder` which reads it."""

    config: DenoisingConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(
            self._view(name, segment, corrupt[segment.space], batch)
            for name, segment in batch.segments.items()
        )

    def _view(self, name: str, segment: Segment, corrupt: Corruption, batch: Batch) -> View:
        inputs, targets = [], []
        for b, row in enumerate(documents(segment)):
            rng = batch.rng.generator(f"{name}/spans", b)
            pairs = [self.pair(document, corrupt, segment, rng) for document in row]
            inputs.append([pair[0] for pair in pairs])
            targets.append([pair[1] for pair in pairs])
        seen, values, weight = next_token_targets(assemble(segment.space, targets))
        read = Readout(segment.space, term=name, target=values, loss_weight=weight)
        given = assemble(segment.space, inputs)
        return View(
            (
                Stream("encoder", self.config.encoder, (given,), pattern="full"),
                Stream(
                    "decoder",
                    self.config.decoder,
                    (seen,),
                    pattern="causal",
                    context="encoder",
                    readouts=(read,),
                ),
            )
        )

    @abstractmethod
    def pair(
        self, document: Document, corrupt: Corruption, segment: Segment, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        """What the encoder reads of a document, and what the decoder tells, the start first."""


class SpanCorruption(Denoising):
    """The decoder tells the missing spans."""

    config: SpanCorruptionConfig

    def __init__(self, config: SpanCorruptionConfig) -> None:
        self.config = config

    def pair(
        self, document: Document, corrupt: Corruption, segment: Segment, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        spans = even_spans(len(document) - 1, self.config.mask_ratio, self.config.mean_span, rng)
        spans = [(first + 1, length) for first, length in spans]  # the start stays
        ids = torch.tensor(
            sentinel_ids(corrupt.sentinels, segment, len(spans) + 1), dtype=document.values.dtype
        )
        told = [document.values[:1]]
        for mark, (first, length) in zip(ids, spans, strict=False):
            told += [mark[None], document.values[first : first + length]]
        values = torch.cat([*told, ids[-1:]])
        weight = torch.ones(len(values))
        weight[0] = 0
        return replace_spans(document, spans, ids), Document(values, weight)


class Infilling(Denoising):
    """The decoder tells everything."""

    config: InfillingConfig

    def __init__(self, config: InfillingConfig) -> None:
        self.config = config

    def pair(
        self, document: Document, corrupt: Corruption, segment: Segment, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        c, given = self.config, document
        if c.permute_ratio:
            begins = masking_units("sentence", corrupt.units, segment.space)(
                document.values
            ).numpy()
            given = document.reordered(permute_sentences(begins, c.permute_ratio, rng))
        spans = poisson_spans(len(document) - 1, c.mask_ratio, c.mean_span, rng)
        return replace_spans(given, [(first + 1, length) for first, length in spans]), document


def replace_spans(document: Document, spans: Spans, marks: torch.Tensor | None = None) -> Document:
    """The document with each span as one place: its mark, or hidden where there are no marks."""
    values, hidden, at = list[torch.Tensor](), list[torch.Tensor](), 0
    blank = document.values[:1]
    for i, (first, length) in enumerate(spans):
        one = blank if marks is None else marks[i : i + 1]
        values += [document.values[at:first], one]
        hidden += [torch.zeros(first - at, dtype=torch.bool), torch.ones(1, dtype=torch.bool)]
        at = first + length
    values.append(document.values[at:])
    hidden.append(torch.zeros(len(document) - at, dtype=torch.bool))
    joined = torch.cat(values)
    return Document(
        joined, torch.ones(len(joined)), None if marks is not None else torch.cat(hidden)
    )


def permute_sentences(begins: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The places of a document with `share` of its sentences in each other's stead: [n].

    The start stays the first, and the last, which may be an end, the last.
    """
    last = len(begins) - 1
    sentences = np.split(np.arange(1, last), np.flatnonzero(begins[2:last]) + 1)
    order = np.arange(len(sentences))
    moved = rng.permutation(order)[: math.ceil(share * len(order))]
    order[np.sort(moved)] = moved
    return np.concatenate([[0], *(sentences[i] for i in order), range(max(1, last), last + 1)])


def even_spans(n: int, share: float, mean: float, rng: np.random.Generator) -> Spans:
    """T5's spans: a fixed number of places in a fixed number of spans, cut anywhere.

    round(share * n) places in round(places / mean) spans, with at least one place before each.
    """
    if n < 2:
        return []
    noise = min(max(round(share * n), 1), n - 1)
    k = min(max(round(noise / mean), 1), noise, n - noise)
    lengths, gaps = _parts(noise, k, rng), _parts(n - noise, k, rng)
    firsts = np.cumsum(gaps) + np.cumsum(lengths) - lengths
    return [(int(first), int(length)) for first, length in zip(firsts, lengths, strict=True)]


def poisson_spans(n: int, share: float, mean: float, rng: np.random.Generator) -> Spans:
    """BART's spans: lengths from a Poisson distribution until `share` of the places are in one.

    The last is cut to fit; a span of length 0 hides nothing and stands between two places.
    """
    noise = min(round(share * n), n - 1)
    lengths = list[int]()
    while sum(lengths) < noise:
        lengths.append(min(int(rng.poisson(mean)), noise - sum(lengths)))
    k = min(len(lengths), n - noise + 1)
    lengths = sorted(lengths, reverse=True)[:k] if k < len(lengths) else lengths
    rng.shuffle(lengths)
    gaps = np.sort(rng.choice(n - sum(lengths) + 1, size=k, replace=False))
    firsts = gaps + np.cumsum([0, *lengths[:-1]]) if k else gaps
    return [(int(first), length) for first, length in zip(firsts, lengths, strict=True)]


def _parts(total: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """`total` cut into k parts of at least 1, each such cut as likely."""
    cuts = np.sort(rng.choice(total - 1, size=k - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
