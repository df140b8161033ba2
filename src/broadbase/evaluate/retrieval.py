"""Retrieval: which of all held-out seconds belongs to a first, and the reverse (CLIP, SigLIP).

Legend: M held-out pairs, K dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from broadbase.core.contracts import Batch
from broadbase.core.keyed_random import Draws
from broadbase.data.batches import held_out
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.inference.base import Base
from broadbase.objectives.contrastive import PairsConfig
from broadbase.run.run import Run

NEAREST = (1, 10)
PAIRS = 1000  # held-out ones that are looked at, the first


def retrieval(run: Run, base: Base) -> Iterator[Measured]:
    """Recall at 1 and at 10, in both directions, beside chance and the same model untrained."""
    config = run.config.objective
    assert isinstance(config, PairsConfig)
    names = config.first.source, config.second.source
    found = {
        "base": ranks(*vectors(run, base, config)),
        "random init": ranks(*vectors(run, base.scratch(0), config)),
    }
    for direction, (given, told) in enumerate((names, names[::-1])):
        for k in NEAREST:
            hits = {
                name: [[float(rank < k)] for rank in both[direction]]
                for name, both in found.items()
            }
            M = len(hits["base"])
            chance = {"chance": [[min(1.0, k / M)]] * M}
            yield from compared(f"{given} > {told}", f"recall@{k}", {**hits, **chance})


@torch.inference_mode()
def vectors(run: Run, base: Base, config: PairsConfig) -> tuple[Tensor, Tensor]:
    """The two halves of held-out pairs in the joint Space: [M,K] each."""
    objective, rows = config.build(), run.rows("validation")
    mixed = run.config.data.sources
    sides = config.first, config.second
    parts = [held_out(rows[s.source], mixed[s.source].modality, 64, PAIRS) for s in sides]
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for segments in zip(*parts, strict=True):
        names = [side.source for side in sides]
        batch = Batch(0, dict(zip(names, segments, strict=True)), Draws(0, 0))
        (view,) = objective.views(batch, {})
        told = base.model(view.to(next(base.model.parameters()).device)).predictions
        for half, name in zip(halves, names, strict=True):
            half.append(told[name][:, 0].cpu())
    first, second = map(torch.cat, halves)
    return first, second


def ranks(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """How many wrong partners are nearer than the right one: of each first, of each second."""
    logits = (first @ second.T).double().numpy()
    own = np.diag(logits)
    before = logits > own[:, None]
    after = logits > own[None, :]
    return before.sum(axis=1).tolist(), after.sum(axis=0).tolist()


MEASURE = Measure((PairsConfig,), retrieval)
