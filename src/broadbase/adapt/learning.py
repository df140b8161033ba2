"""Learn a task from all chosen records, and calibrate what is predicted.

Legend: M records, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import KFold, StratifiedGroupKFold

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Calibration, Labels, Outputs
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

    The calibration is fitted on the outputs of `cross_outputs`.
    """
    outputs, labels = cross_outputs(encoder, task, method, train, seed, done)
    return method.fit(encoder, task, train, seed, done), task.target.calibrate(outputs, labels)


def cross_outputs(
    encoder: Encoder,
    task: Task,
    method: MethodConfig,
    train: Indices,
    seed: int = 0,
    done: Done = ignored,
) -> tuple[Outputs, Labels]:
    """Return outputs [M,K] for records of `train` by models that did not see them, with the labels.

    With fewer than two records there are none. A method that trains the base is fitted once, on
    four fifths of the records; others are fitted 5 times, and predict every record.
    """
    if len(train) < 2:
        return np.zeros((0, task.target.columns)), task.labels[:0]
    parts = list(folds(task, train, seed))
    if method.trains_base:
        parts = parts[:1]
    outputs = [
        method.fit(encoder, task, fit, seed, done).outputs(task.inputs(held)) for fit, held in parts
    ]
    return np.concatenate(outputs), np.concatenate([task.labels[held] for _, held in parts])


def folds(
    task: Task, train: Indices, seed: int, count: int = FOLDS
) -> Iterator[tuple[Indices, Indices]]:
    """Yield `count` times which records of `train` to fit, and which to predict.

    Classes are in proportion where they have members enough; records of a group, and the tokens of
    a record, stay together where there are groups enough.
    """
    groups = np.arange(len(task.labels)) if task.groups is None else task.groups
    strata, groups = task.target.strata(task.labels)[train], groups[train]
    count = min(count, len(train))
    if len(np.unique(groups)) >= count:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strata with fewer members than folds
            parts = list(splitter.split(train, strata, groups))
    else:
        parts = list(KFold(count, shuffle=True, random_state=seed).split(train))
    for fit, held in parts:
        yield train[fit], train[held]
