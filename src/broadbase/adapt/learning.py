"""Learn a task from all chosen records, and calibrate what is predicted.

Legend: M records, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Calibration, Outputs
from broadbase.adapt.task import Task
from broadbase.inference.embedding import Done, ignored

FOLDS = 5


def learn(
    encoder: Encoder,
    task: Task,
    method: MethodConfig,
    train: Indices,
    seed: int = 0,
    done: Done = ignored,
) -> tuple[Fitted, Calibration]:
    """Fit a method to the records `train`, and its calibration to records that it did not see.

    The calibration is fitted on the outputs of `cross_outputs`; those of a method that trains the
    base are of a fifth of the records. Where one method was chosen among several, it counts. Texts
    have none.
    """
    fitted = method.fit(encoder, task, train, seed, done)
    if task.target.generates:
        return fitted, {}
    learner = fitted.selection.method if fitted.selection else method
    parts = 1 if learner.trains_base else FOLDS
    outputs, held = cross_outputs(encoder, task, learner, train, seed, done, parts)
    return fitted, task.target.calibrate(outputs, task.labels[held])


def cross_outputs(
    encoder: Encoder,
    task: Task,
    method: MethodConfig,
    train: Indices,
    seed: int = 0,
    done: Done = ignored,
    parts: int = FOLDS,
) -> tuple[Outputs, Indices]:
    """Return outputs [M,K] for records of `train` by models that did not see them, and which.

    The method is fitted on four fifths of the records for the others, in as many of the 5 parts as
    `parts` says. With fewer than two records there are none.
    """
    if len(train) < 2:
        return np.zeros((0, task.target.columns)), train[:0]
    outputs, records = list[Outputs](), list[Indices]()
    for fit, held in itertools.islice(folds(task, train, seed), parts):
        outputs.append(method.fit(encoder, task, fit, seed, done).outputs(task.inputs(held)))
        records.append(held)
    return np.concatenate(outputs), np.concatenate(records)


def folds(
    task: Task, train: Indices, seed: int, count: int = FOLDS
) -> Iterator[tuple[Indices, Indices]]:
    """Yield `count` times which records of `train` to fit, and which to predict.

    Classes are in proportion where they have members enough; records of a group, and the tokens of
    a record, stay together where there are groups enough. There are fewer parts where no class has
    `count` members, but two at least.
    """
    strata = task.target.strata(task.labels)[train]
    groups = train if task.groups is None else task.groups[train]
    commonest = int(np.unique(strata, return_counts=True)[1].max())
    different = len(np.unique(groups))
    count = min(count, len(train), max(2, commonest))
    splitter: Any = KFold(count, shuffle=True, random_state=seed)
    if commonest >= count and different == len(train):
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    elif commonest >= count and different >= count:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strata with fewer members than folds
        parts = list(splitter.split(train, strata, groups))
    for fit, held in parts:
        yield train[fit], train[held]
