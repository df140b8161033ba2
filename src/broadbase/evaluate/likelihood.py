"""Measured on held-out data, beside a unigram and a Kneser-Ney n-gram.

The n-grams are trained on exactly the rows the model saw and, as an aim, on the whole training
split. All are scored on the same targets; a difference has its 95 % interval over the held-out
documents. Where one text alone is held out, it is over its chunks, which depend on each other: the
interval is then too narrow, and the measure's name says what it is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Segment
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.registry import Measure, Measured
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.base import Base
from broadbase.objectives.causal import CausalConfig
from broadbase.run.run import Run

Numbers = NDArray[np.float64]


def likelihoods(run: Run, base: Base, order: int = 5) -> list[Measured]:
    """Every source told place by place, against unigram, n-gram of the rows seen, and of all."""
    if base.pattern != "causal":
        raise ConfigError(
            f"only a causal base has a likelihood; this one has the pattern {base.pattern!r}"
        )
    return [
        row for source in run.likelihoods().values() for row in _source(run, base, source, order)
    ]


def _source(run: Run, base: Base, source: str, order: int) -> Iterator[Measured]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    held = list(held_out(validation, mixed.modality, mixed.rows))
    every = held_out(run.rows("train")[source], mixed.modality, 256)
    rows = collate(run.seen(source), mixed.modality, validation.plain)
    seen = chunks(rows)
    whole = [chunk for segment in every for chunk in chunks(segment)]
    tested = [chunk for segment in held for chunk in chunks(segment)]
    alphabet = np.unique(np.concatenate([chunk.ravel() for chunk in (*seen, *whole, *tested)]))
    document = validation.chunks[validation.packed, 0]
    unit, several = run.stores[source].unit, bool(document.any())
    if not several:  # one text is held out: its chunks are the items
        document = np.arange(len(tested))
    if len(document) < 2:
        raise DataError(
            f"{source}: one held-out row is too little to measure on; give more data, or train with"
            " a larger data.holdout"
        )
    model = np.concatenate([_nats(base, source, segment) for segment in held])
    for name, texts, n in (
        ("unigram, rows seen", seen, 1),
        (f"{order}-gram, rows seen", seen, order),
        (f"{order}-gram, whole split", whole, order),
    ):
        coded = (np.searchsorted(alphabet, text.ravel()) for text in texts)
        gram = KneserNey.fit(coded, n, len(alphabet))
        nats = np.array([_gram_nats(gram, alphabet, chunk) for chunk in tested])
        row = compare(
            source=source,
            unit=unit,
            baseline=name,
            model=np.bincount(document, model).astype(float),
            other=np.bincount(document, nats).astype(float),
            units=validation.split.units,
        )
        yield row if several else replace(row, measure=f"{row.measure}, parts of one text", own=())


def compare(
    *, source: str, unit: str, baseline: str, model: Numbers, other: Numbers, units: int
) -> Measured:
    """Nats of each held-out document under both, as bits a unit, with the interval of the gap.

    Documents are the independent observations: a sum over n of them deviates by sd * sqrt(n).
    """
    bits = 1 / (math.log(2) * units)
    n = len(model)
    spread = float((model - other).std(ddof=1)) * math.sqrt(n) * bits
    half = float(stats.t.ppf(0.975, n - 1)) * spread
    mine, theirs = float(model.sum()) * bits, float(other.sum()) * bits
    gap = mine - theirs
    name = f"bits a {unit}"
    own = tuple((model * bits * n).tolist())  # whose mean is `mine`
    return Measured(source, name, baseline, n, mine, theirs, gap, gap - half, gap + half, own)


def chunks(segment: Segment) -> list[NDArray[Any]]:
    """The packed chunks of a segment, row by row, without padding: [n] ids or [n,K] each."""
    assert segment.values is not None
    values = segment.values.numpy()
    if segment.document is None:
        return list(values)
    document = segment.document.numpy()
    return [
        row[inside == number]
        for row, inside in zip(values, document, strict=True)
        for number in range(int(inside.max()) + 1)
    ]


@torch.inference_mode()
def _nats(base: Base, source: str, segment: Segment) -> Numbers:
    """The model's nats for every chunk of a segment, in the order of `chunks`."""
    objective = CausalConfig(tower=base.tower(segment.source)).build()
    (view,) = objective.views(Batch(0, {source: segment}, Draws(0, 0)), {})
    (read,) = view.reads
    assert read.weight is not None
    score_BS = base.model(view).scores[read.term] * read.weight
    if segment.document is None:
        return score_BS.sum(dim=1).double().numpy()  # type: ignore[no-any-return]
    document_BS = segment.document[:, 1:]
    return np.concatenate(
        [
            np.bincount(d[d >= 0].numpy(), s[d >= 0].double().numpy())
            for d, s in zip(document_BS, score_BS, strict=True)
        ]
    )


def _gram_nats(gram: KneserNey, alphabet: NDArray[Any], chunk: NDArray[Any]) -> float:
    """The n-gram's nats for the targets of a chunk: all symbols but those of its first place."""
    skip = int(np.prod(chunk.shape[1:]))
    return float(-gram.logprob(np.searchsorted(alphabet, chunk.ravel()))[skip - 1 :].sum())


MEASURE = Measure((CausalConfig,), likelihoods)
