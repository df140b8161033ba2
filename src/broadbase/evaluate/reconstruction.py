"""Telling held-out records from their codes: squared error beside other codes of as many bits.

The bases' codes are compared with k-means of the same vectors, one by one, each with as many
centroids as a codebook has codes (and as many times over as there are codebooks, each time of what
is left): a codebook without networks, at the same number of bits a place.

Legend: M places, K channels, C codebooks, V codes of a codebook.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import Draws
from broadbase.core.view import Segment, View
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.registry import Measure, Measured, asked, compared
from broadbase.inference.base import Base
from broadbase.nn.vector_quantizer import Quantised
from broadbase.objectives.autoencoder import AutoencoderConfig
from broadbase.run.run import Run

RECORDS = 1000  # held-out rows that are looked at, the first
FITTED = 100_000  # vectors of the rows seen that k-means learns from

Numbers = NDArray[np.float64]


def reconstructions(run: Run, base: Base) -> Iterator[Measured]:
    """Every source beside the mean of each place and k-means, and how evenly its codes are used."""
    config = run.config.objective
    assert isinstance(config, AutoencoderConfig)
    if getattr(run.config.model.modalities[config.target], "normalise", False):
        raise ConfigError(
            "this base tells vectors brought to mean 0 and variance 1, which tell no record; train"
            f" with --set model.modalities.{config.target}.normalise=false"
        )
    for source in run.config.data.sources:
        yield from _source(run, base, source, config)


@torch.inference_mode()
def _source(run: Run, base: Base, source: str, config: AutoencoderConfig) -> Iterator[Measured]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    rows = collate(run.seen(source), mixed.modality, validation.plain)
    seen = [truth for truth, _, _ in _told(run, base, [rows], source)]
    held = held_out(validation, mixed.modality, mixed.rows, RECORDS)
    records = list(_told(run, base, held, source))
    mean_SK = _mean(seen)
    found: dict[str, list[list[float]]] = {
        "base": [_error(truth, told) for truth, told, _ in records],
        "mean of each place": [_error(truth, mean_SK[: len(truth)]) for truth, _, _ in records],
    }
    quantised = base.model.connectors[f"{config.encoder}>{config.decoder}"]
    if isinstance(quantised, Quantised):
        codes = quantised.sizes
        means = _k_means(np.concatenate(seen), codes)
        name = f"k-means of {' x '.join(map(str, codes))}"
        found[name] = [_error(truth, _nearest(truth, means)) for truth, _, _ in records]
    yield from compared(source, "squared error", found)
    if isinstance(quantised, Quantised):
        used = {
            "base": _bits([states for _, _, states in records], quantised),
            "even use": [[math.log2(n) for n in codes]] * len(records),
        }
        yield from compared(source, "bits of a code", used)


def _told(
    run: Run, base: Base, segments: Iterable[Segment], source: str
) -> Iterator[tuple[Numbers, Numbers, torch.Tensor]]:
    """Of each row: the vectors, what the base tells them by [M,K], the encoder's states [M,D]."""
    objective = run.config.objective.build()
    for segment in segments:
        (view,) = objective.views(Batch(0, {source: segment}, Draws(0, 0)), {})
        for start in range(0, view.size, 64):
            piece: View = view.rows(start, start + 64)
            (read,) = piece.reads
            assert read.values is not None
            assert read.weight is not None
            output = base.model(asked(piece))
            told, states = output.predictions["p"], output.streams["encoder"].x
            for b, keep in enumerate(read.weight > 0):
                yield read.values[b][keep].numpy(), told[b][keep].numpy(), states[b][keep]


def _error(truth: Numbers, told: Numbers) -> list[float]:
    """The squared error of each place, a mean over channels."""
    errors: list[float] = ((truth - told) ** 2).mean(axis=1).tolist()
    return errors


def _mean(records: list[Numbers]) -> Numbers:
    """The mean of the i-th places of all records, zero where there is none."""
    longest = max(map(len, records))
    total, count = np.zeros((longest, records[0].shape[1])), np.zeros((longest, 1))
    for record in records:
        total[: len(record)] += record
        count[: len(record)] += 1
    mean: Numbers = total / np.maximum(count, 1)
    return mean


def _k_means(vectors: Numbers, codes: list[int]) -> list[MiniBatchKMeans]:
    """Centroids of the vectors, then of what is left by the nearest, and so on."""
    rng = np.random.default_rng(0)
    left = vectors[rng.permutation(len(vectors))[:FITTED]]
    means = []
    for n in codes:
        fitted = MiniBatchKMeans(n, random_state=0, n_init=3, batch_size=4096).fit(left)
        means.append(fitted)
        left = left - fitted.cluster_centers_[fitted.predict(left)]
    return means


def _nearest(truth: Numbers, means: list[MiniBatchKMeans]) -> Numbers:
    left = truth
    for each in means:
        left = left - each.cluster_centers_[each.predict(left)].astype(left.dtype)
    return truth - left


def _bits(records: list[torch.Tensor], quantised: Quantised) -> list[list[float]]:
    """-log2 of the share that each code of a record has of all; 2 to the mean is the perplexity."""
    codes = [quantised.encode(states[None])[0].numpy() for states in records]
    shares = [np.bincount(column) / len(column) for column in np.concatenate(codes).T]
    return [
        np.mean([-np.log2(s[c]) for s, c in zip(shares, each.T, strict=True)], axis=0).tolist()
        for each in codes
    ]


MEASURE = Measure((AutoencoderConfig,), reconstructions)
