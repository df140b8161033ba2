"""Retrieval: which of all held-out partners belongs to a record, both ways (CLIP, SigLIP).

Legend: M held-out pairs, K dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import KeyedRandom
from broadbase.data.batches import held_out
from broadbase.evaluate.registry import Measure
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.base import Base
from broadbase.objectives.contrastive import PairsConfig
from broadbase.run.run import Run

TOP = (1, 10)  # k of recall@k
PAIRS = 1000  # the most held-out pairs that are evaluated


def recall(k: int) -> Metric:
    """Return the metric recall@k."""
    return Metric(f"recall@{k}", "higher")


def retrieval(run: Run, base: Base, config: PairsConfig) -> Iterator[Comparison]:
    """Compare recall@1 and recall@10, both ways, with chance and the same model untrained."""
    names = config.first.source, config.second.source
    by_model = {
        MODEL: ranks(*vectors(run, base, config)),
        "random init": ranks(*vectors(run, base.reinitialised(0), config)),
    }
    for direction, (query, gallery) in enumerate((names, names[::-1])):
        for k in TOP:
            hits = {
                name: [[float(rank < k)] for rank in both_ways[direction]]
                for name, both_ways in by_model.items()
            }
            M = len(hits[MODEL])
            chance = {"chance": [[min(1.0, k / M)]] * M}
            yield from compare(f"{query} > {gallery}", recall(k), {**hits, **chance})


@torch.inference_mode()
def vectors(run: Run, base: Base, config: PairsConfig) -> tuple[Tensor, Tensor]:
    """Return the two halves of held-out pairs in the joint space: [M,K] each."""
    objective, rows = config.build(), run.rows("validation")
    mixed = run.config.data.sources
    names = [side.source for side in (config.first, config.second)]
    segments = [held_out(rows[name], mixed[name].modality, 64, PAIRS) for name in names]
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for pair in zip(*segments, strict=True):
        batch = Batch(0, dict(zip(names, pair, strict=True)), KeyedRandom(0, 0))
        (view,) = objective.views(batch, {})
        device = next(base.model.parameters()).device
        predictions = base.model(view.to(device)).predictions
        for half, name in zip(halves, names, strict=True):
            half.append(predictions[name][:, 0].cpu())
    first, second = map(torch.cat, halves)
    return first, second


def ranks(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """Count the wrong partners nearer than the right one, of each first and of each second."""
    logits = (first @ second.T).double().numpy()
    right = np.diag(logits)
    before = logits > right[:, None]
    after = logits > right[None, :]
    return before.sum(axis=1).tolist(), after.sum(axis=0).tolist()


MEASURE = Measure((PairsConfig,), retrieval)
