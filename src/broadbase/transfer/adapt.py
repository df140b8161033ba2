"""Adapt a base to a task, each time beside the same architecture from random init."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError, DataError
from broadbase.model.base import Base
from broadbase.transfer.beginning import Beginning, long
from broadbase.transfer.classical import NEAREST, PLACES, Scorer, classical
from broadbase.transfer.compare import Comparison
from broadbase.transfer.finetune import FinetuneConfig, finetune, score_on
from broadbase.transfer.neighbours import nearest
from broadbase.transfer.probe import fitted_score, probe
from broadbase.transfer.task import Indices, Task


class Method(StrEnum):
    """Ways to adapt."""

    probe = "probe"
    finetune = "finetune"
    knn = "knn"


def adapt(
    bases: Base | Sequence[Base],
    task: Task,
    method: Method,
    labels: Sequence[int],
    test: int,
    seeds: int,
    *,
    beside: bool = False,
    settings: FinetuneConfig | None = None,
) -> list[Comparison]:
    """A row for each number of labels: `seeds` splits, each with a random init of its own.

    Split s of a base and of random init s are the same records, so their difference is paired.
    Several bases are one recipe under several seeds. `beside` adds the classical baselines, which
    read long records to their end; a base reads their beginning (LONGEST).
    """
    bases = [bases] if isinstance(bases, Base) else bases
    settings = settings or FinetuneConfig()
    mine = [_scorer(base, task, method, settings) for base in bases]
    random = [_scorer(bases[0].scratch(seed), task, method, settings) for seed in range(seeds)]
    known = NEAREST if method is Method.knn else None
    if task.places is not None:
        if method is Method.finetune:
            raise ConfigError("labels of places are learned by a probe or as neighbours only")
        known = PLACES
    others = classical(task, known) if beside else {}
    cut = 0 if task.places is not None else long(bases[0].codec(task.modality)[1], task.raws)
    rows = []
    for few in labels:
        splits = [(*task.split(few, test, seed), seed) for seed in range(seeds)]
        scratch = tuple(random[split[2]](*split) for split in splits)
        rows.append(
            Comparison(
                task=task.name,
                method=method,
                labels=few,
                test=len(splits[0][1]),
                chance=task.chance,
                pretrained=tuple(score(*split) for score in mine for split in splits),
                random=scratch * len(bases),
                metric=task.metric,
                bases=len(bases),
                cut=cut,
                classical={n: tuple(score(*s) for s in splits) for n, score in others.items()},
            )
        )
    return rows


def _scorer(base: Base, task: Task, method: Method, settings: FinetuneConfig) -> Scorer:
    if method is not Method.finetune and task.places is None:
        name, codec = base.codec(task.modality)
        base = replace(base, codecs={**base.codecs, name: Beginning(codec)})
    if method is Method.probe:
        vectors = _vectors(base, task, layers=True)
        told = None if task.places is not None else base.told(task.raws, modality=task.modality)
        candidates = [vectors] if told is None else [vectors, told]
        return lambda train, test, _: probe(candidates, task, train, test)

    if method is Method.knn:
        last = _vectors(base, task, layers=False)
        return lambda train, test, _: fitted_score(nearest(task), last, task, train, test)

    def by_finetuning(train: Indices, test: Indices, seed: int) -> float:
        config = settings.model_copy(update={"seed": seed})
        return score_on(finetune(base, task, train, config), task, train, test)

    return by_finetuning


def _vectors(base: Base, task: Task, *, layers: bool) -> NDArray[np.float32]:
    """What a base makes of each labelled record, or of each labelled place: [M,D]."""
    if task.places is None:
        return base.embed(task.raws, modality=task.modality, layers=layers)
    rows = base.embed_places(task.raws, modality=task.modality, layers=layers)
    for i, places in enumerate(np.bincount(task.places[:, 0])):
        if len(rows[i]) != places:
            raise DataError(
                f"task {task.name!r}: record {i} has {places} labels, and {len(rows[i])} places in"
                f" modality {task.modality!r}; give a letter a place"
            )
    return np.concatenate(rows)
