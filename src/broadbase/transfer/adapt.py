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
    _letters_have_places(bases[0], task)
    splits = [[(*task.split(few, test, seed), seed) for few in labels] for seed in range(seeds)]
    used = [np.unique(np.concatenate([i for *both, _ in each for i in both])) for each in splits]
    ever = np.unique(np.concatenate(used))
    mine = [_scorer(base, task, ever, method, settings) for base in bases]
    random = [
        _scorer(bases[0].scratch(seed), task, used[seed], method, settings) for seed in range(seeds)
    ]
    known = NEAREST if method is Method.knn else None
    if task.places is not None:
        if method is Method.finetune:
            raise ConfigError("labels of places are learned by a probe or as neighbours only")
        known = PLACES
    others = classical(task, known) if beside else {}
    codec = bases[0].codec(task.modality)[1]
    cut = 0 if task.places is not None else long(codec, (task.raws[i] for i in ever))
    rows = []
    for few, those in zip(labels, zip(*splits, strict=True), strict=True):
        scratch = tuple(score(*split) for score, split in zip(random, those, strict=True))
        rows.append(
            Comparison(
                task=task.name,
                method=method,
                labels=few,
                test=len(those[0][1]),
                chance=task.chance,
                pretrained=tuple(score(*split) for score in mine for split in those),
                random=scratch * len(bases),
                metric=task.metric,
                bases=len(bases),
                cut=cut,
                classical={n: tuple(score(*s) for s in those) for n, score in others.items()},
            )
        )
    return rows


def _scorer(
    base: Base, task: Task, used: Indices, method: Method, settings: FinetuneConfig
) -> Scorer:
    """What scores a split of the `used` records; a base reads no others."""
    if method is not Method.finetune and task.places is None:
        name, codec = base.codec(task.modality)
        base = replace(base, codecs={**base.codecs, name: Beginning(codec)})
    if method is Method.probe:
        candidates = [_vectors(base, task, used, layers=True)]
        if task.places is None:
            told = base.told([task.raws[i] for i in used], modality=task.modality)
            candidates += [] if told is None else [_spread(told, used, len(task.labels))]
        return lambda train, test, _: probe(candidates, task, train, test)

    if method is Method.knn:
        last = _vectors(base, task, used, layers=False)
        return lambda train, test, _: fitted_score(nearest(task), last, task, train, test)

    def by_finetuning(train: Indices, test: Indices, seed: int) -> float:
        config = settings.model_copy(update={"seed": seed})
        return score_on(finetune(base, task, train, config), task, test)

    return by_finetuning


def _vectors(base: Base, task: Task, used: Indices, *, layers: bool) -> NDArray[np.float32]:
    """What a base makes of each labelled record, or of each labelled place: [M,D].

    Those that no split uses are 0.
    """
    if task.places is None:
        raws = [task.raws[i] for i in used]
        found = base.embed(raws, modality=task.modality, layers=layers)
        return _spread(found, used, len(task.labels))
    record = task.places[:, 0]
    read = np.unique(record[used])
    rows = base.embed_places([task.raws[i] for i in read], modality=task.modality, layers=layers)
    return _spread(np.concatenate(rows), np.flatnonzero(np.isin(record, read)), len(record))


def _letters_have_places(base: Base, task: Task) -> None:
    if task.places is None:
        return
    codec = base.codec(task.modality)[1]
    for i, labels in enumerate(np.bincount(task.places[:, 0])):
        if (places := len(codec.encode(task.raws[i]).values)) != labels:
            raise DataError(
                f"task {task.name!r}: record {i} has {labels} labels, and {places} places in"
                f" modality {task.modality!r}; give a letter a place"
            )


def _spread(found: NDArray[np.float32], at: Indices, size: int) -> NDArray[np.float32]:
    """The rows of `found` at their places among `size`, the others 0."""
    whole = np.zeros((size, found.shape[1]), found.dtype)
    whole[at] = found
    return whole
