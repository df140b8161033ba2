"""Bits per unit of held-out data, against a unigram and a Kneser-Ney n-gram.

The n-grams are trained on the rows the model saw and, as a goal, on the full training split. All
are scored on the same targets; the interval is over the held-out documents. Where a single text is
held out it is over its chunks. These depend on each other, so that interval is too narrow, and the
metric's name says what it is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.base import Base
from broadbase.objectives.causal import CausalConfig
from broadbase.run.run import Run

ORDER = 5  # of the n-gram

Numbers = NDArray[np.float64]


def likelihoods(run: Run, base: Base, order: int = ORDER) -> Iterator[Comparison]:
    """Compare the bits per unit of every source with a unigram's and an n-gram's.

    ConfigError where the model is not causal.
    """
    if base.usage.attention != "causal":
        raise ConfigError(
            "only a model with causal attention has a likelihood; the attention pattern of this one"
            f" is {base.usage.attention!r}"
        )
    for source in run.likelihoods().values():
        yield from _compare_source(run, base, source, order)


def _compare_source(run: Run, base: Base, source: str, order: int) -> Iterator[Comparison]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    segments = list(held_out(validation, mixed.modality, mixed.batch_size))
    training = held_out(run.rows("train")[source], mixed.modality, 256)
    seen = chunks(collate(run.seen(source), mixed.modality, validation.plain))
    split = [chunk for segment in training for chunk in chunks(segment)]
    tested = [chunk for segment in segments for chunk in chunks(segment)]
    counted = [weight for segment in segments for weight in chunks(weights(segment))]
    alphabet = np.unique(np.concatenate([chunk.ravel() for chunk in (*seen, *split, *tested)]))
    document = validation.chunks[validation.packed, 0]
    several = bool(document.any())
    if not several:  # a single text is held out: its chunks are the items
        document = np.arange(len(tested))
    if len(document) < 2:
        raise DataError(
            f"{source}: one held-out row is too little to measure on; give more data, or train with"
            " a larger data.holdout"
        )
    nats = {MODEL: np.concatenate([model_nats(base, source, segment) for segment in segments])}
    for name, texts, n in (
        ("unigram, rows seen", seen, 1),
        (f"{order}-gram, rows seen", seen, order),
        (f"{order}-gram, full split", split, order),
    ):
        coded = (np.searchsorted(alphabet, text.ravel()) for text in texts)
        gram = KneserNey.fit(coded, n, len(alphabet))
        nats[name] = np.array(
            [
                _gram_nats(gram, alphabet, chunk, weight)
                for chunk, weight in zip(tested, counted, strict=True)
            ]
        )
    by_document = {
        name: np.bincount(document, chunk_nats).astype(float) for name, chunk_nats in nats.items()
    }
    share = sum(float(weight.sum()) for weight in counted) / validation.split.targets
    units = validation.split.units * share  # of the documents as far as they are read
    rows = compare_bits(source, run.stores[source].unit, by_document, units)
    for row in rows:
        yield row if several else _of_one_text(row)


def _of_one_text(row: Comparison) -> Comparison:
    """Name what the interval is over, and drop the scores, which pair with no other documents."""
    metric = replace(row.metric, name=f"{row.metric.name}, chunks of one text")
    return replace(row, metric=metric, per_item=(), other_per_item=())


def compare_bits(
    source: str, unit: str, nats: dict[str, Numbers], units: float
) -> Iterator[Comparison]:
    """Compare nats of each held-out document, by name, as bits per unit over all `units`.

    The score of a document is scaled so that the mean over documents is the bits per unit.
    """
    documents = len(nats[MODEL])
    scale = documents / (math.log(2) * units)
    scores = {name: (scale * each)[:, None].tolist() for name, each in nats.items()}
    return compare(source, Metric(f"bits per {unit}", "lower"), scores)


def chunks(segment: Segment) -> list[NDArray[Any]]:
    """Return the packed chunks of a segment, row by row, without padding: [n] ids or [n,K] each."""
    values = segment.values.numpy()
    if segment.document is None:
        return list(values)
    document = segment.document.numpy()
    return [
        row[inside == number]
        for row, inside in zip(values, document, strict=True)
        for number in range(int(inside.max()) + 1)
    ]


def weights(segment: Segment) -> Segment:
    """Return a segment whose values are how much each token is a target."""
    return replace(segment, values=segment.target_weight)


@torch.inference_mode()
def model_nats(base: Base, source: str, segment: Segment) -> Numbers:
    """Return the model's nats for every chunk of a segment, in the order of `chunks`."""
    objective = CausalConfig(tower=base.tower(segment.space)).build()
    (view,) = objective.views(Batch(0, {source: segment}, KeyedRandom(0, 0)), {})
    (score,) = view.scored
    score_BS = base.model(view).scores[score.term] * score.loss_weight
    if segment.document is None:
        return score_BS.sum(dim=1).double().numpy()  # type: ignore[no-any-return]
    document_BS = segment.document[:, 1:]
    return np.concatenate(
        [
            np.bincount(d[d >= 0].numpy(), s[d >= 0].double().numpy())
            for d, s in zip(document_BS, score_BS, strict=True)
        ]
    )


def _gram_nats(
    gram: KneserNey, alphabet: NDArray[Any], chunk: NDArray[Any], weight: NDArray[Any]
) -> float:
    """Return the n-gram's nats for the targets of a chunk [n,...], which the weights [n] name.

    The symbols of its start are none.
    """
    symbols = int(np.prod(chunk.shape[1:]))
    logprob = gram.logprob(np.searchsorted(alphabet, chunk.ravel()))[symbols - 1 :]
    return float(-(logprob * np.repeat(weight[1:], symbols)).sum())


MEASURE = Measure((CausalConfig,), lambda run, base, _: likelihoods(run, base))
