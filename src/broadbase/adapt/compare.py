"""Adapt a base to a task, and compare it with the same architecture from random init."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from rich.console import Console

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import NEAREST, PER_TOKEN, Baselines, classical
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.pair_features import PAIRS
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read
from broadbase.adapt.result import RANDOM_INIT, UNCHANGED, TaskResult, compare_splits
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done
from broadbase.inference.truncation import long

Split = tuple[Indices, Indices, int]  # train, test, seed
BASE = "base"


class Tested(NamedTuple):
    """The score of a fitted method on a test, and what else is to be said of it."""

    score: float
    members: tuple[float, ...] = ()  # the score of each predictor that is combined
    remarks: tuple[str, ...] = ()


Scores = list[list[Tested]]  # by split and number of labels


def compare(
    bases: Base | Sequence[Base],
    task: Task,
    method: MethodConfig,
    labels: Sequence[int],
    test: int,
    seeds: int,
    *,
    features: bool = False,
    random_init: bool = True,
    console: Console | None = None,
) -> list[TaskResult]:
    """Return a row for each number of labels: `seeds` splits, each with its own random init.

    Split s of a base and of random init s are the same records, so their difference is paired.
    Several bases are one recipe under several seeds. `features` adds the hand-made features, which
    read long records to their end; a base reads their beginning. Records are read as `prepare`
    reads them, and equal ones stay on one side of every split. Without `random_init` there is none.
    A method that trains the base first is also held against `MethodConfig.unchanged`.
    Progress goes to `console`.
    """
    bases = [bases] if isinstance(bases, Base) else bases
    progress, task = Progress(console), as_read(bases[0], task)
    must_suit(bases[0], task, method, min(labels))
    splits = [[(*task.split(few, test, seed), seed) for few in labels] for seed in range(seeds)]
    used = [np.unique(np.concatenate([i for *both, _ in each for i in both])) for each in splits]
    ever = np.unique(np.concatenate(used))
    scores = partial(scores_of, task, method, progress)
    pretrained = [scores(base, ever, splits, BASE) for base in bases]
    random = [
        scores(bases[0].reinitialised(seed), used[seed], [splits[seed]], RANDOM_INIT)[0]
        for seed in range(seeds if random_init else 0)
    ]
    unchanged: Scores = []
    if method.unchanged is not None:
        unchanged = scores_of(task, method.unchanged, progress, bases[0], ever, splits, UNCHANGED)
    codec = bases[0].codec(task.modality)[1]
    others = classical(task, choice_of(task, method), codec) if features else {}
    result = result_of(bases[0], task, ever, method, len(bases))
    constant, chance = task.constant()
    results = []
    with progress.phase("hand-made features", len(labels) if others else 0):
        for n, (few, those) in enumerate(zip(labels, zip(*splits, strict=True), strict=True)):
            baselines = {constant: [chance] * len(those)}
            for name, rows in ((RANDOM_INIT, random), (UNCHANGED, unchanged)):
                if rows:
                    baselines[name] = [row[n].score for row in rows]
            own = [row[n] for rows in pretrained for row in rows]
            if few:
                baselines |= {n: [score(*split) for split in those] for n, score in others.items()}
            results.append(result(few, len(those[0][1]), own, baselines))
            progress.done(1)
    return results


def must_suit(base: Base, task: Task, method: MethodConfig, labels: int = 1) -> None:
    """ConfigError where the method cannot learn the task, DataError where labels do not fit."""
    if reason := method.unsuited(base, task, labels):
        raise ConfigError(f"task {task.name!r}: {reason}")
    _must_align(base, task)


def scores_of(
    task: Task,
    method: MethodConfig,
    progress: Progress,
    base: Base,
    used: Indices,
    splits: Sequence[Sequence[Split]],
    name: str,
) -> Scores:
    """Return a base's scores on splits, each with several numbers of labels.

    The records `used` are read once, and their vectors are gone when this returns.
    """
    encoder = encoder_of(base, task, used, method, progress, name)
    work = sum(map(len, splits)) * (method.work or 1)
    with progress.phase(f"{name}: {'training, steps' if method.work else 'fitting'}", work):
        return [[_score(method, task, encoder, progress.done, *each) for each in some]
                for some in splits]  # fmt: skip


def encoder_of(
    base: Base, task: Task, used: Indices, method: MethodConfig, progress: Progress, name: str
) -> Encoder:
    """Return an encoder, which keeps the vectors of records where the method needs them."""
    encoder, inputs = Encoder(base, task.modality), task.inputs(used)
    if method.reads_vectors:
        with progress.phase(f"{name}: computing embeddings", len(inputs.items.used)):
            encoder.keep(inputs, progress.done)
    return encoder


def _score(
    method: MethodConfig,
    task: Task,
    encoder: Encoder,
    done: Done,
    train: Indices,
    test: Indices,
    seed: int,
) -> Tested:
    """Fit the method on the records `train`; its score on the records `test`."""
    tested, _ = tested_on(method.fit(encoder, task, train, seed, done), task, test)
    done(0 if method.work else 1)
    return tested


def tested_on(fitted: Fitted, task: Task, test: Indices) -> tuple[Tested, Outputs]:
    """Return the score on the records `test`, and the outputs for them."""
    inputs = task.inputs(test)
    outputs = fitted.outputs(inputs)
    members = tuple(task.score(each, test) for each in fitted.members(inputs))
    return Tested(task.score(outputs, test), members, tuple(fitted.remarks)), outputs


def choice_of(task: Task, method: MethodConfig) -> Baselines | None:
    """Return the hand-made features that fit a method; None: the usual ones."""
    if task.token_labels is not None:
        return PER_TOKEN
    if task.paired:
        return PAIRS
    return NEAREST if method.by_neighbours or task.target.generates else None


def result_of(
    base: Base, task: Task, used: Indices, method: MethodConfig, seeds: int
) -> Callable[[int, int, Sequence[Tested], Mapping[str, list[float]]], TaskResult]:
    """Return what makes a result of the sizes of a split, the scores and those of baselines."""
    codec = base.codec(task.modality)[1]
    limit = method.record_tokens(base, task.modality, task.paired, task.target)
    cut = 0 if task.token_labels is not None else long(codec, (task.raws[i] for i in used), limit)
    metric = task.target.metric

    def result(
        train: int, test: int, tested: Sequence[Tested], baselines: Mapping[str, list[float]]
    ) -> TaskResult:
        scores = [each.score for each in tested]
        remarks = dict.fromkeys(remark for each in tested for remark in each.remarks)
        return TaskResult(
            task=task.name,
            method=method.name,
            metric=metric,
            train_size=train,
            test_size=test,
            scores=tuple(scores),
            comparisons=compare_splits(task.name, metric, (train, test), scores, baselines, seeds),
            seeds=seeds,
            truncated=cut,
            max_tokens=limit,
            labels=task.summary,
            class_counts=task.target.counts(task.labels),
            notes=task.notes,
            remarks=(*base.unavailable, *remarks),
            members=tuple(each.members for each in tested if each.members),
        )

    return result


def _must_align(base: Base, task: Task) -> None:
    """DataError where labels of tokens are not one for each token, or a record is too long."""
    if task.token_labels is None:
        return
    codec, most = base.codec(task.modality)[1], base.max_tokens(task.modality)
    for i, labels in enumerate(np.bincount(task.token_labels[:, 0])):
        if (tokens := len(codec.encode(task.raws[i]).values)) != labels:
            raise DataError(
                f"task {task.name!r}: record {i} has {labels} labels, and {tokens} tokens in"
                f" modality {task.modality!r}; give one letter for each token"
            )
        if tokens > most:
            raise DataError(
                f"task {task.name!r}: record {i} has {tokens:,} tokens, and the base reads"
                f" {most:,.0f}; cut it and its labels"
            )
