"""A base at several numbers of labels, next to the best hand-made features on the same splits.

No labels: the names of the classes. With 2, 5 and 20 labels of each class: class centroids, which
the records without a label refine. With all: a linear probe. The method of a row is fixed here, and
not chosen by its score; of the hand-made features the best on the tested records is shown, which
favours them. Half of the records, 500 at most, are tested on; groups stay together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from broadbase.adapt.features import BASELINES, Baselines, classical
from broadbase.adapt.few_labels import Reader, balanced, reader, split, thinned
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.adapt.text_features import POOLED_CENTROIDS, WORDS
from broadbase.core.errors import ConfigError, DataError
from broadbase.evidence.few_labels import Scores, mean_interval
from broadbase.evidence.interval import Interval, paired_interval
from broadbase.inference.base import Base

EACH, TOTAL = (2, 5, 20), (20, 50, 200)  # labels: of each class, and of numbers in all
SPLITS, TEST, MOST = 5, 500, 2000  # of a table; records to test on, and records that are read


@dataclass(frozen=True)
class LabelRow:
    """The scores of a base from so many labels, and of the best hand-made features."""

    labels: int | None  # of each class, or in all where there are no classes; None: all there are
    train: int  # records with a label that a split learns from
    test: int  # records that a split is tested on
    metric: str
    method: str
    scores: Scores
    features: str = ""  # the best of them; empty where there are none
    feature_scores: Scores = ()

    @property
    def gap(self) -> Interval | None:
        """How far the base is above the hand-made features."""
        if not self.feature_scores:
            return None
        return paired_interval(self.scores, self.feature_scores)

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values: means and the ends of 95 % intervals over splits."""
        features = mean_interval(self.feature_scores) if self.feature_scores else None
        return {
            "labels": self.labels,
            "train": self.train,
            "test": self.test,
            "metric": self.metric,
            "method": self.method,
            "score": list(mean_interval(self.scores)),
            "features": self.features,
            "features_score": None if features is None else list(features),
            "gap": None if self.gap is None else list(self.gap),
        }


def label_table(base: Base, task: Task, progress: Progress | None = None) -> Iterator[LabelRow]:
    """Yield the rows of the table, from none to all labels.

    A row that the base or the labels do not allow is left out. Of more than 2,000 records as many
    are read. ConfigError where tokens are labelled, texts are generated, or the data say what is
    tested on.
    """
    _must_suit(task)
    task, progress = sample(task), progress or Progress()
    with progress.phase("reading records", len(task.raws)):
        read = reader(base, task, progress)
    cuts = [_cut(read.task, seed) for seed in range(SPLITS)]
    names = NamesConfig()
    if not names.unsuited(base, read.task, 0):
        none = [(pool[:0], pool, held) for pool, held in cuts]
        yield _row(read, names, none, 0, {})
    sizes = _sizes(read.task, [pool for pool, _ in cuts])
    usual = classical(read.task, BASELINES, base.codec(task.modality)[1])
    with progress.phase("fitting, splits", len(sizes) * SPLITS):
        for labels in sizes:
            some = [(few(read.task, pool, labels), pool, held) for pool, held in cuts]
            method = _method(base, read.task, labels)
            yield _row(read, method, some, labels, usual, progress)


def sample(task: Task, most: int = MOST) -> Task:
    """Return a task of about `most` of its records at random, classes in proportion."""
    if is_classed(task):
        return thinned(task, most)
    if len(task.labels) <= most:
        return task
    kept = np.sort(np.random.default_rng(0).permutation(len(task.labels))[:most])
    groups = None if task.groups is None else task.groups[kept]
    raws = [task.raws[int(i)] for i in kept]
    return replace(task, raws=raws, labels=task.labels[kept], groups=groups)


def is_classed(task: Task) -> bool:
    """Return whether a label is one class."""
    return bool(task.target.names) and task.labels.ndim == 1


def few(task: Task, pool: Indices, labels: int | None) -> Indices:
    """Return the first `labels` of each class, or in all where there are no classes; None: all."""
    if labels is None:
        return pool
    return balanced(task, pool, labels) if is_classed(task) else pool[:labels]


def _cut(task: Task, seed: int) -> tuple[Indices, Indices]:
    """Return a pool in random order, and the records to test on."""
    try:
        pool, held = split(task, seed, TEST)
    except ValueError as error:
        raise DataError(
            f"task {task.name!r} cannot be split for a test: {error}; give more records"
        ) from None
    return np.random.default_rng(seed).permutation(pool), held


def _sizes(task: Task, pools: Sequence[Indices]) -> list[int | None]:
    """Return the numbers of labels that are fewer than all."""
    sizes = EACH if is_classed(task) else TOTAL
    counts = [[len(few(task, pool, each)) for pool in pools] for each in sizes]
    all_labels = min(map(len, pools))
    return [*(each for each, got in zip(sizes, counts, strict=True) if max(got) < all_labels), None]


def _method(base: Base, task: Task, labels: int | None) -> MethodConfig:
    centroids = CentroidsConfig()
    if labels is None or centroids.unsuited(base, task):
        return ProbeConfig()
    return centroids


def _row(
    read: Reader,
    method: MethodConfig,
    splits: Sequence[tuple[Indices, Indices, Indices]],  # train, pool, held
    labels: int | None,
    usual: Any,
    progress: Progress | None = None,
) -> LabelRow:
    """Score the base and the features on every split."""
    task, own, features = read.task, list[float](), dict[str, list[float]]()
    choices: tuple[Baselines, ...] = (WORDS, POOLED_CENTROIDS) if is_classed(task) else (WORDS,)
    for seed, (train, pool, held) in enumerate(splits):
        rest = np.setdiff1d(pool, train)
        own.append(read.score(method, train, rest, held))
        if len(train):
            pooled = replace(task, unlabelled=[task.raws[int(i)] for i in rest])
            made = [usual, *(classical(pooled, choice) for choice in choices)]
            for name, score in (pair for each in made for pair in each.items()):
                features.setdefault(name, []).append(score(train, held, seed))
        if progress is not None:
            progress.done(1)
    best = max(features, key=lambda name: float(np.mean(features[name])), default="")
    return LabelRow(
        labels,
        train=min(len(train) for train, _, _ in splits),
        test=min(len(held) for _, _, held in splits),
        metric=task.target.metric.name,
        method=method.name,
        scores=tuple(own),
        features=best,
        feature_scores=tuple(features.get(best, ())),
    )


def _must_suit(task: Task) -> None:
    """ConfigError where there is no such table of the task."""
    if task.token_labels is not None or task.target.generates:
        what = "labels of tokens" if task.token_labels is not None else "texts to generate"
        raise ConfigError(f"--few-labels: there is no such table for {what}; leave it out")
    if task.test is not None:
        raise ConfigError("--few-labels draws splits of its own; leave out --test and --time")
    if task.paired:
        raise ConfigError("--few-labels: there is no such table for pairs; leave it out")
