"""Adapt a base to a task, each time beside the same architecture from random init."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from broadbase.model.base import Base
from broadbase.transfer.compare import Comparison
from broadbase.transfer.finetune import FinetuneConfig, correct, finetune
from broadbase.transfer.probe import probe
from broadbase.transfer.task import Indices, Task

Scorer = Callable[[Indices, Indices, int], float]  # train, test, seed -> accuracy


class Method(StrEnum):
    """Ways to adapt."""

    probe = "probe"
    finetune = "finetune"


def adapt(
    base: Base, task: Task, method: Method, labels: Sequence[int], test: int, seeds: int
) -> list[Comparison]:
    """A row for each number of labels: `seeds` splits, each with a random init of its own.

    Split s of the base and of random init s are the same records, so their difference is paired.
    """
    mine = _scorer(base, task, method)
    random = [_scorer(base.scratch(seed), task, method) for seed in range(seeds)]
    rows = []
    for few in labels:
        splits = [task.split(few, test, seed) for seed in range(seeds)]
        rows.append(
            Comparison(
                task=task.name,
                method=method,
                labels=few,
                test=len(splits[0][1]),
                chance=float(np.bincount(task.labels).max() / len(task.labels)),
                pretrained=tuple(mine(*split, seed) for seed, split in enumerate(splits)),
                random=tuple(random[seed](*split, seed) for seed, split in enumerate(splits)),
            )
        )
    return rows


def _scorer(base: Base, task: Task, method: Method) -> Scorer:
    if method is Method.probe:
        vectors: NDArray[np.float32] = base.embed(task.raws, modality=task.modality)
        return lambda train, test, _: float(probe(vectors, task, train, test).mean())

    def by_finetuning(train: Indices, test: Indices, seed: int) -> float:
        adapted = finetune(base, task, train, FinetuneConfig(seed=seed))
        return float(correct(adapted, task, test).mean())

    return by_finetuning
