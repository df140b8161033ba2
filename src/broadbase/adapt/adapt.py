"""Adapt a base to a task, and compare it with the same architecture from random init."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from broadbase.adapt.features import NEAREST, PLACES, Baselines, Scorer, classical
from broadbase.adapt.finetune import FinetuneConfig, finetune, score_on
from broadbase.adapt.knn import nearest
from broadbase.adapt.method import Method
from broadbase.adapt.probe import fitted_score, probe
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read
from broadbase.adapt.result import MEAN, MOST_FREQUENT, RANDOM_INIT, TaskResult, compare_splits
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.adapt.truncation import beginning, long, max_tokens
from broadbase.core.errors import ConfigError, DataError
from broadbase.evidence.comparison import Metric
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done

Split = tuple[Indices, Indices, int]  # train, test, seed


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
    console: Console | None = None,
) -> list[TaskResult]:
    """Return a row for each number of labels: `seeds` splits, each with its own random init.

    Split s of a base and of random init s are the same records, so their difference is paired.
    Several bases are one recipe under several seeds. `beside` adds the classical baselines, which
    read long records to their end; a base reads their beginning. Records are read as `prepare`
    reads them, and equal ones stay on one side of every split. Progress goes to `console`.
    """
    bases = [bases] if isinstance(bases, Base) else bases
    settings, progress = settings or FinetuneConfig(), Progress(console)
    task = as_read(bases[0], task)
    known = _baselines(bases[0], task, method)
    splits = [[(*task.split(few, test, seed), seed) for few in labels] for seed in range(seeds)]
    used = [np.unique(np.concatenate([i for *both, _ in each for i in both])) for each in splits]
    ever = np.unique(np.concatenate(used))
    inits = [(bases[0].reinitialised(seed), used[seed]) for seed in range(seeds)]
    models = [*((base, ever) for base in bases), *inits]
    work = 0 if method is Method.finetune else sum(len(_records(task, some)) for _, some in models)
    with progress.phase("reading records", work):
        scorers = [_scorer(*each, task, method, settings, progress.done) for each in models]
    mine, random = scorers[: len(bases)], scorers[len(bases) :]
    codec = bases[0].codec(task.modality)[1]
    others = classical(task, known, codec) if beside else {}
    steps = settings.steps if method is Method.finetune else 0
    work = len(labels) * seeds * len(scorers[: len(bases) + 1]) * (steps or 1)

    def scored(score: Scorer, split: Split) -> float:
        found = score(*split)
        progress.done(0 if steps else 1)
        return found

    result = _result_of(bases[0], task, ever, method, len(bases))
    dummy, results = MOST_FREQUENT if task.classes else MEAN, []
    with progress.phase("fine-tuning, steps" if steps else "fitting", work):
        for few, those in zip(labels, zip(*splits, strict=True), strict=True):
            scratch = [scored(*both) for both in zip(random, those, strict=True)]
            pretrained = [scored(score, split) for score in mine for split in those]
            baselines = {dummy: [task.chance] * len(those), RANDOM_INIT: scratch}
            baselines |= {n: [score(*split) for split in those] for n, score in others.items()}
            results.append(result(few, len(those[0][1]), pretrained, baselines))
    return results


def _result_of(
    base: Base, task: Task, used: Indices, method: Method, seeds: int
) -> Callable[[int, int, list[float], Mapping[str, list[float]]], TaskResult]:
    """Return what makes a result of the sizes of a split, the scores and those of baselines."""
    codec, limit = base.codec(task.modality)[1], max_tokens(base, task.modality)
    cut = 0 if task.token_labels is not None else long(codec, (task.raws[i] for i in used), limit)
    metric = Metric(task.metric, "higher")

    def result(
        train: int, test: int, scores: list[float], baselines: Mapping[str, list[float]]
    ) -> TaskResult:
        return TaskResult(
            task=task.name,
            method=method.value,
            metric=metric,
            train_size=train,
            test_size=test,
            scores=tuple(scores),
            comparisons=compare_splits(task.name, metric, (train, test), scores, baselines, seeds),
            seeds=seeds,
            truncated=cut,
            max_tokens=limit,
            labels=task.summary,
            class_counts=task.counts,
            notes=task.notes,
        )

    return result


def _baselines(base: Base, task: Task, method: Method) -> Baselines | None:
    """Return a method's hand-made features (None: the usual ones); errors where it does not fit."""
    if task.token_labels is None:
        return NEAREST if method is Method.knn else None
    if method is Method.finetune:
        raise ConfigError("labels of places are learned by a probe or as neighbours only")
    _letters_have_places(base, task)
    return PLACES


def _scorer(
    base: Base, used: Indices, task: Task, method: Method, settings: FinetuneConfig, done: Done
) -> Scorer:
    """Return the scorer of splits of the `used` records; a base reads no other records."""
    if method is not Method.finetune and task.token_labels is None:
        base = beginning(base, task.modality)
    if method is Method.probe:
        candidates = [_vectors(base, task, used, done, layers=True)]
        if task.token_labels is None:
            told = base.predict_properties([task.raws[i] for i in used], modality=task.modality)
            candidates += [] if told is None else [_spread(told, used, len(task.labels))]
        return lambda train, test, _: probe(candidates, task, train, test)

    if method is Method.knn:
        last = _vectors(base, task, used, done, layers=False)
        return lambda train, test, _: fitted_score(nearest(task), last, task, train, test)

    def by_finetuning(train: Indices, test: Indices, seed: int) -> float:
        config = settings.replace(seed=settings.seed + seed)
        return score_on(finetune(base, task, train, config, done=done), task, test)

    return by_finetuning


def _records(task: Task, used: Indices) -> Indices:
    """Return the records that are read for the `used` labels."""
    return used if task.token_labels is None else np.unique(task.token_labels[used, 0])


def _vectors(
    base: Base, task: Task, used: Indices, done: Done, *, layers: bool
) -> NDArray[np.float32]:
    """Return the base's vector of each labelled record, or of each labelled token: [M,D].

    A vector that no split uses is 0.
    """
    read = _records(task, used)
    raws = [task.raws[i] for i in read]
    if task.token_labels is None:
        found = base.embed(raws, modality=task.modality, layers=layers, done=done)
        return _spread(found, used, len(task.labels))
    record = task.token_labels[:, 0]
    rows = base.embed_tokens(raws, modality=task.modality, layers=layers, done=done)
    return _spread(np.concatenate(rows), np.flatnonzero(np.isin(record, read)), len(record))


def _letters_have_places(base: Base, task: Task) -> None:
    assert task.token_labels is not None
    codec, most = base.codec(task.modality)[1], base.max_tokens(task.modality)
    for i, labels in enumerate(np.bincount(task.token_labels[:, 0])):
        if (places := len(codec.encode(task.raws[i]).values)) != labels:
            raise DataError(
                f"task {task.name!r}: record {i} has {labels} labels, and {places} places in"
                f" modality {task.modality!r}; give a letter a place"
            )
        if places > most:
            raise DataError(
                f"task {task.name!r}: record {i} has {places:,} positions, and the base reads"
                f" {most:,.0f}; cut it and its labels"
            )


def _spread(found: NDArray[np.float32], at: Indices, size: int) -> NDArray[np.float32]:
    """Return `size` rows: those of `found` at the indices `at`, the others 0."""
    whole = np.zeros((size, found.shape[1]), found.dtype)
    whole[at] = found
    return whole
