"""Denoising: an encoder reads a document without some spans, and a decoder predicts them.

Span corruption (T5; Raffel et al. 2020, 3.1.4): each span is replaced by a sentinel; the decoder
predicts sentinel and span in turn, and one more sentinel at the end. Text infilling (BART; Lewis et
al. 2020, 2.2): each span, also one of length 0, is replaced by one masked token, and sentences may
be permuted; the decoder predicts the full document. Packed documents stay apart, in the encoder, in
the decoder and between them.

Legend: n tokens of a document, k spans.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.core.contracts import Corruption, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import ConditioningConfig, DataFacts, Usage
from broadbase.core.view import Score, Segment, Stream, View
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
from broadbase.objectives.scoring import PerSource

Spans = Sequence[tuple[int, int]]  # first token and length of each, in order, none adjacent


class DenoisingConfig(ObjectiveConfig):
    """What both have in common; not a choice by itself."""

    encoder: TowerName = "encoder"
    """The tower that reads the document without its spans."""
    decoder: TowerName = "decoder"
    """The tower that predicts; it attends to the encoder."""

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
    """Predict the missing spans, each after its sentinel (T5)."""

    name: Literal["span_corruption"] = "span_corruption"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of a document's tokens that is removed."""
    mean_span: Annotated[float, Field(ge=1)] = 3.0
    """The mean length of a span, in tokens."""

    def conditioning(self, facts: DataFacts) -> ConditioningConfig:
        """Return the conditioning in which the rest of a document is the one span missing."""
        first = {name: ids[0] for name, ids in facts.sentinels.items() if len(ids)}
        return SentinelConditioningConfig(
            encoder=self.encoder, decoder=self.decoder, sentinels=first
        )

    def build(self) -> Denoising:
        """Return the objective."""
        return SpanCorruption(self)


class InfillingConfig(DenoisingConfig):
    """Predict the full document from one with masked spans and permuted sentences (BART)."""

    name: Literal["infilling"] = "infilling"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of a document's tokens that is removed."""
    mean_span: Annotated[float, Field(ge=0.5)] = 3.0
    """The mean of the Poisson distribution of lengths, in tokens."""
    permute_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of sentences that are permuted before that (BART: 1)."""

    def conditioning(self, facts: DataFacts) -> ConditioningConfig:
        """Return the conditioning in which the decoder repeats a document and continues it."""
        return InfillingConditioningConfig(encoder=self.encoder, decoder=self.decoder)

    def build(self) -> Denoising:
        """Return the objective."""
        return Infilling(self)


class Denoising(PerSource):
    """Two streams for each source: `encoder`, and `decoder`, which attends to it."""

    config: DenoisingConfig

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return the encoder's stream of what is left and the decoder's of what it predicts."""
        inputs, targets = [], []
        for b, row in enumerate(documents(segment)):
            draws = rng.generator(f"{name}/spans", b)
            pairs = [self.pair(each, corrupt[segment.space], segment, draws) for each in row]
            inputs.append([pair[0] for pair in pairs])
            targets.append([pair[1] for pair in pairs])
        seen, values, weight = next_token_targets(assemble(segment.space, targets))
        read = Score(segment.space, term=name, target=values, loss_weight=weight)
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
        """Return what the encoder reads of a document, and what the decoder predicts.

        Both begin with the start.
        """


class SpanCorruption(Denoising):
    """The decoder predicts the missing spans."""

    config: SpanCorruptionConfig

    def __init__(self, config: SpanCorruptionConfig) -> None:
        self.config = config

    def pair(
        self, document: Document, corrupt: Corruption, segment: Segment, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        """Return the document with sentinels for spans, and the spans after their sentinels."""
        spans = even_spans(len(document) - 1, self.config.mask_ratio, self.config.mean_span, rng)
        spans = [(first + 1, length) for first, length in spans]  # the start stays
        ids = torch.tensor(
            sentinel_ids(corrupt.sentinels, segment, len(spans) + 1), dtype=document.values.dtype
        )
        targets = [document.values[:1]]
        for sentinel, (first, length) in zip(ids, spans, strict=False):
            targets += [sentinel[None], document.values[first : first + length]]
        values = torch.cat([*targets, ids[-1:]])
        weight = torch.ones(len(values))
        weight[0] = 0
        return replace_spans(document, spans, ids), Document(values, weight)


class Infilling(Denoising):
    """The decoder predicts the full document."""

    config: InfillingConfig

    def __init__(self, config: InfillingConfig) -> None:
        self.config = config

    def pair(
        self, document: Document, corrupt: Corruption, segment: Segment, rng: np.random.Generator
    ) -> tuple[Document, Document]:
        """Return the document with masked tokens for spans, and the document."""
        c, given = self.config, document
        if c.permute_ratio:
            begins = masking_units("sentence", corrupt.units, segment.space)(
                document.values
            ).numpy()
            given = document.reordered(permute_sentences(begins, c.permute_ratio, rng))
        spans = poisson_spans(len(document) - 1, c.mask_ratio, c.mean_span, rng)
        return replace_spans(given, [(first + 1, length) for first, length in spans]), document


def replace_spans(
    document: Document, spans: Spans, sentinels: torch.Tensor | None = None
) -> Document:
    """Return the document with one token for each span: its sentinel, or a masked token."""
    values, masked, at = list[torch.Tensor](), list[torch.Tensor](), 0
    blank = document.values[:1]
    for i, (first, length) in enumerate(spans):
        one = blank if sentinels is None else sentinels[i : i + 1]
        values += [document.values[at:first], one]
        masked += [torch.zeros(first - at, dtype=torch.bool), torch.ones(1, dtype=torch.bool)]
        at = first + length
    values.append(document.values[at:])
    masked.append(torch.zeros(len(document) - at, dtype=torch.bool))
    joined = torch.cat(values)
    return Document(
        joined, torch.ones(len(joined)), torch.cat(masked) if sentinels is None else None
    )


def permute_sentences(begins: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return the tokens of a document in an order with `share` of its sentences permuted: [n].

    The start stays first, and the last token, which may be an end, stays last.
    """
    last = len(begins) - 1
    sentences = np.split(np.arange(1, last), np.flatnonzero(begins[2:last]) + 1)
    order = np.arange(len(sentences))
    moved = rng.permutation(order)[: math.ceil(share * len(order))]
    order[np.sort(moved)] = moved
    return np.concatenate([[0], *(sentences[i] for i in order), range(max(1, last), last + 1)])


def even_spans(n: int, share: float, mean: float, rng: np.random.Generator) -> Spans:
    """Draw T5's spans: a fixed number of tokens in a fixed number of spans, cut anywhere.

    round(share * n) tokens are in round(tokens / mean) spans, with at least one token before each.
    """
    if n < 2:
        return []
    noise = min(max(round(share * n), 1), n - 1)
    k = min(max(round(noise / mean), 1), noise, n - noise)
    lengths, gaps = _parts(noise, k, rng), _parts(n - noise, k, rng)
    firsts = np.cumsum(gaps) + np.cumsum(lengths) - lengths
    return [(int(first), int(length)) for first, length in zip(firsts, lengths, strict=True)]


def poisson_spans(n: int, share: float, mean: float, rng: np.random.Generator) -> Spans:
    """Draw BART's spans: lengths of a Poisson distribution, until `share` of the tokens are in one.

    The last is cut to fit; a span of length 0 removes nothing and is between two tokens.
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
    """Cut `total` into k parts of at least 1, all such cuts equally likely: [k]."""
    cuts = np.sort(rng.choice(total - 1, size=k - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
