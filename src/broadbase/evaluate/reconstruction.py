"""Squared error of held-out records restored from their codes, against codes of as many bits.

A vector quantizer's codes are compared with k-means of the same vectors, token by token, with as
many centroids as a codebook has codes; several codebooks are as many rounds of k-means, each of the
residual. That is a codebook without networks, at the same number of bits per token.

Legend: M tokens, K channels, C codebooks, V codes of a codebook.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View
from broadbase.data.batches import collate, held_out
from broadbase.evaluate.masked_errors import require_raw_values
from broadbase.evaluate.registry import Measure, without_targets
from broadbase.evidence.comparison import MODEL, MSE, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.nn.vector_quantizer import VectorQuantizer
from broadbase.objectives.autoencoder import AutoencoderConfig
from broadbase.run.run import Run

RECORDS = 1000  # the most held-out rows that are evaluated
FITTED = 100_000  # the most training vectors that k-means is fitted on
CODE_BITS = Metric("bits per code", "higher")  # how evenly codes are used

Numbers = NDArray[np.float64]


def reconstruction(run: Run, base: Base, config: AutoencoderConfig) -> Iterator[Comparison]:
    """Compare with the mean of each position and k-means, and the use of codes with an even one."""
    require_raw_values(run.config.model, config.target)
    for source in run.config.data.sources:
        yield from _compare_source(run, base, source, config)


@torch.inference_mode()
def _compare_source(
    run: Run, base: Base, source: str, config: AutoencoderConfig
) -> Iterator[Comparison]:
    mixed, validation = run.config.data.sources[source], run.rows("validation")[source]
    rows = collate(run.seen(source), mixed.modality, validation.plain)
    training = [target for target, _, _ in _restored(base, config, [rows], source)]
    segments = held_out(validation, mixed.modality, mixed.batch_size, RECORDS)
    records = list(_restored(base, config, segments, source))
    mean_SK = _mean(training)
    scores: dict[str, list[list[float]]] = {
        MODEL: [_errors(target, prediction) for target, prediction, _ in records],
        "mean by position": [_errors(t, mean_SK[: len(t)]) for t, _, _ in records],
    }
    quantizer = base.model.connectors[f"{config.encoder}>{config.decoder}"]
    if isinstance(quantizer, VectorQuantizer):
        codes = quantizer.sizes
        means = _k_means(np.concatenate(training), codes)
        name = f"k-means of {' x '.join(map(str, codes))}"
        scores[name] = [_errors(target, _nearest(target, means)) for target, _, _ in records]
    yield from compare(source, MSE, scores)
    if isinstance(quantizer, VectorQuantizer):
        used = {
            MODEL: _code_bits([states for _, _, states in records], quantizer),
            "uniform use": [[math.log2(n) for n in codes]] * len(records),
        }
        yield from compare(source, CODE_BITS, used)


def _restored(
    base: Base, config: AutoencoderConfig, segments: Iterable[Segment], source: str
) -> Iterator[tuple[Numbers, Numbers, torch.Tensor]]:
    """Yield of each row: its vectors and the model's [M,K], and the encoder's states [M,D]."""
    objective = config.build()
    for segment in segments:
        (view,) = objective.views(Batch(0, {source: segment}, KeyedRandom(0, 0)), {})
        for start in range(0, view.size, 64):
            piece: View = view.rows(start, start + 64)
            (score,) = piece.scored
            output = base.model(without_targets(piece))
            predictions, states = output.predictions["p"], output.streams["encoder"].x
            for b, keep in enumerate(score.loss_weight > 0):
                yield score.target[b][keep].numpy(), predictions[b][keep].numpy(), states[b][keep]


def _errors(target: Numbers, prediction: Numbers) -> list[float]:
    """Return the squared error of each token, a mean over channels."""
    errors: list[float] = ((target - prediction) ** 2).mean(axis=1).tolist()
    return errors


def _mean(records: list[Numbers]) -> Numbers:
    """Return the mean over records by position, zero where no record reaches."""
    longest = max(map(len, records))
    total, count = np.zeros((longest, records[0].shape[1])), np.zeros((longest, 1))
    for record in records:
        total[: len(record)] += record
        count[: len(record)] += 1
    mean: Numbers = total / np.maximum(count, 1)
    return mean


def _k_means(vectors: Numbers, codes: list[int]) -> list[MiniBatchKMeans]:
    """Fit centroids to the vectors, then to the residuals, and so on for each codebook."""
    rng = np.random.default_rng(0)
    residual = vectors[rng.permutation(len(vectors))[:FITTED]]
    means = []
    for n in codes:
        fitted = MiniBatchKMeans(n, random_state=0, n_init=3, batch_size=4096).fit(residual)
        means.append(fitted)
        residual = residual - fitted.cluster_centers_[fitted.predict(residual)]
    return means


def _nearest(target: Numbers, means: list[MiniBatchKMeans]) -> Numbers:
    residual = target
    for each in means:
        residual = residual - each.cluster_centers_[each.predict(residual)].astype(residual.dtype)
    return target - residual


def _code_bits(records: list[torch.Tensor], quantizer: VectorQuantizer) -> list[list[float]]:
    """Return -log2 of the frequency of each code of a record; 2 to the mean is the perplexity."""
    codes = [quantizer.encode(states[None])[0].numpy() for states in records]
    frequency = [np.bincount(column) / len(column) for column in np.concatenate(codes).T]
    return [
        np.mean([-np.log2(f[c]) for f, c in zip(frequency, ids.T, strict=True)], axis=0).tolist()
        for ids in codes
    ]


MEASURE = Measure((AutoencoderConfig,), reconstruction)
