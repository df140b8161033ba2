"""Several bases on a task with few labels of each class, next to hand-made features.

Half of the records are held out, or up to `test` of them; of a task with groups a third, groups
apart. The labels are of the other half, whose records without their labels are the pool. A base
stays frozen and reads every record once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import BASELINES, Scorer, classical
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices, cut_groups
from broadbase.adapt.task import Task
from broadbase.adapt.text_features import POOLED_CENTROIDS, WORDS
from broadbase.evidence.few_labels import FEATURES, FewLabels, Scores
from broadbase.inference.base import Base

Rows = dict[str, dict[str, list[float]]]  # scores of each split, by model and method
LABELS = (2, 5, 10, 20)  # of each class
METHODS: tuple[MethodConfig, ...] = (ProbeConfig(), CentroidsConfig())


@dataclass(frozen=True)
class Reader:
    """A base that has read the records of a task."""

    encoder: Encoder
    task: Task

    def score(self, method: MethodConfig, train: Indices, pool: Indices, held: Indices) -> float:
        """Fit a method to the records `train`, and score it on `held`; `pool` has no labels."""
        pooled = replace(self.task, unlabelled=[self.task.raws[int(i)] for i in pool])
        fitted = method.fit(self.encoder, pooled, train)
        return self.task.score(fitted.outputs(self.task.inputs(held)), held)


def measured(
    bases: Mapping[str, Base],
    task: Task,
    splits: int,
    test: int,
    *,
    labels: Sequence[int] = LABELS,
    methods: Sequence[MethodConfig] = METHODS,
    names: NamesConfig | None = None,
    modalities: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[FewLabels]:
    """Yield the scores for each number of labels of each class, from 0 where `names` are given.

    `modalities` says what a base reads the records as, where that is not the task's modality.
    """
    progress, others = progress or Progress(), modalities or {}
    with progress.phase(f"{task.name}: reading", len(bases) * len(task.raws)):
        readers = {
            name: reader(base, replace(task, modality=others.get(name, task.modality)), progress)
            for name, base in bases.items()
        }
    first = next(iter(readers.values()))
    cuts = [split(first.task, seed, test) for seed in range(splits)]
    none = cuts[0][0][:0]
    if names is not None:
        by_name: dict[str, dict[str, Scores]] = {
            model: {names.name: tuple(each.score(names, none, none, held) for _, held in cuts)}
            for model, each in readers.items()
        }
        yield FewLabels(task.name, 0, by_name)
    base = next(iter(bases.values()))
    usual = classical(first.task, BASELINES, base.codec(first.task.modality)[1])
    rows: dict[int, Rows] = {each: defaultdict(lambda: defaultdict(list)) for each in labels}
    with progress.phase(f"{task.name}: fitting", len(labels) * splits):
        for seed, cut in enumerate(cuts):  # LSA of a split is that of its records: fitted once
            for each in labels:
                for model, method, score in _scores(readers, usual, seed, *cut, each, methods):
                    rows[each][model][method].append(score)
                progress.done(1)
    for each, scores in rows.items():
        done = {model: {k: tuple(v) for k, v in row.items()} for model, row in scores.items()}
        yield FewLabels(task.name, each, done)


def reader(base: Base, task: Task, progress: Progress) -> Reader:
    """Let a base read all records of a task."""
    task = as_read(base, task)
    encoder = Encoder(base, task.modality)
    encoder.keep(task.inputs(np.arange(len(task.labels))), progress.done)
    return Reader(encoder, task)


def _scores(
    readers: Mapping[str, Reader],
    usual: Mapping[str, Scorer],
    seed: int,
    pool: Indices,
    held: Indices,
    each: int,
    methods: Sequence[MethodConfig],
) -> Iterator[tuple[str, str, float]]:
    """Yield the score of every model and method on a split."""
    task = next(iter(readers.values())).task
    train = balanced(task, pool, each)
    rest = np.setdiff1d(pool, train)
    for model, it in readers.items():
        for method in methods:
            yield model, method.name, it.score(method, train, rest, held)
    pooled = replace(task, unlabelled=[task.raws[int(i)] for i in rest])
    made = [usual, *(classical(pooled, choice) for choice in (WORDS, POOLED_CENTROIDS))]
    for name, score in (pair for features in made for pair in features.items()):
        yield FEATURES, name, score(train, held, seed)


def split(task: Task, seed: int, test: int) -> tuple[Indices, Indices]:
    """Return the pool and the held-out records, classes in proportion; groups stay together."""
    strata = task.target.strata(task.labels)
    if task.groups is not None:
        pool, held = cut_groups(strata, task.groups, test, seed)
        return pool, held
    order = np.random.default_rng(seed).permutation(len(strata))
    ranks = np.argsort(np.argsort(strata[order], kind="stable"), kind="stable")
    return order[ranks % 2 == 0], order[ranks % 2 == 1][:test]


def thinned(task: Task, most: int) -> Task:
    """Return a task of about `most` of its records, classes in proportion."""
    share, rng = most / len(task.labels), np.random.default_rng(0)
    if share >= 1:
        return task
    classes = (np.flatnonzero(task.labels == label) for label in np.unique(task.labels))
    kept = np.sort(
        np.concatenate([rng.permutation(each)[: round(share * len(each))] for each in classes])
    )
    return replace(
        task,
        raws=[task.raws[int(i)] for i in kept],
        labels=task.labels[kept],
        groups=None if task.groups is None else task.groups[kept],
    )


def balanced(task: Task, pool: Indices, each: int) -> Indices:
    """Return the first `each` records of every class in the pool, or all where there are fewer."""
    labels = task.labels[pool]
    return np.concatenate([pool[labels == label][:each] for label in np.unique(task.labels)])
