"""Compare on the test that a task gives: every model is fitted once, on all other records.

Legend: M records of the test, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from broadbase.adapt.compare import (
    BASE,
    Tested,
    choice_of,
    encoder_of,
    must_suit,
    result_of,
    tested_on,
)
from broadbase.adapt.features import predictors
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read
from broadbase.adapt.result import RANDOM_INIT, UNCHANGED, TaskResult
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.task import Task
from broadbase.evidence.interval import Interval, bootstrap_interval
from broadbase.inference.base import Base

RESAMPLES = 400
FEWEST = 10  # records that an interval is given for


def compare_test(
    base: Base,
    task: Task,
    method: MethodConfig,
    *,
    features: bool = False,
    random_init: bool = True,
    console: Console | None = None,
) -> TaskResult:
    """Return the scores on the task's own test, with bootstrap intervals over its records.

    The method and the baselines are as in `compare`. The tokens of a record are resampled together.
    """
    progress, task = Progress(console), as_read(base, task)
    must_suit(base, task, method, len(task.train))
    assert task.test is not None
    train, test, labels = task.train, task.test, task.labels[task.test]
    everything = np.arange(len(task.labels))
    constant, outputs = task.target.constant(labels)
    predicted: dict[str, Outputs] = {constant: outputs}
    tested = dict[str, Tested]()

    def predict(name: str, base: Base, method: MethodConfig) -> None:
        """Let a base predict the test; the vectors of its records are gone afterwards."""
        encoder = encoder_of(base, task, everything, method, progress, name)
        what = "training, steps" if method.work else "fitting"
        with progress.phase(f"{name}: {what}", method.work or 1):
            fitted = method.fit(encoder, task, train, 0, progress.done)
            tested[name], predicted[name] = tested_on(fitted, task, test)

    predict(BASE, base, method)
    if random_init:
        predict(RANDOM_INIT, base.reinitialised(0), method)
    if method.unchanged is not None:
        predict(UNCHANGED, base, method.unchanged)
    codec = base.codec(task.modality)[1]
    others = predictors(task, choice_of(task, method), codec) if features else {}
    predicted |= {name: features_of(train, test) for name, features_of in others.items()}
    scores = {name: task.target.score(labels, each) for name, each in predicted.items()}
    scores.pop(BASE)
    result = result_of(base, task, everything, method, 1)
    own = [tested[BASE]]
    plain = result(len(train), len(test), own, {name: [x] for name, x in scores.items()})
    return _with_intervals(plain, task, predicted, test)


def _with_intervals(
    result: TaskResult, task: Task, predicted: Mapping[str, Outputs], test: Indices
) -> TaskResult:
    """Return the result with an interval of its score, and of each difference to a baseline."""
    owners = np.arange(len(test)) if task.token_labels is None else task.token_labels[test, 0]
    units = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    if len(units) < FEWEST:
        return replace(result, own_test=True)
    resampled = _resampled(task, predicted, test, units)
    own = resampled[BASE]
    comparisons = tuple(
        replace(row, gap=bootstrap_interval(row.gap.mean, own - resampled[row.baseline]))
        for row in result.comparisons
    )
    interval: Interval = bootstrap_interval(result.scores[0], own)
    return replace(result, own_test=True, interval=interval, comparisons=comparisons)


def _resampled(
    task: Task, predicted: Mapping[str, Outputs], test: Indices, units: list[Indices]
) -> dict[str, NDArray[np.float64]]:
    """Return the scores [R] of every model on records of the test drawn with replacement."""
    rng, labels = np.random.default_rng(0), task.labels[test]
    scores: dict[str, list[float]] = {name: [] for name in predicted}
    for _ in range(RESAMPLES):
        drawn = np.concatenate([units[i] for i in rng.integers(len(units), size=len(units))])
        for name, outputs in predicted.items():
            scores[name].append(task.target.score(labels[drawn], outputs[drawn]))
    return {name: np.array(each) for name, each in scores.items()}
