"""Whose label a base disputes: every record is judged by models that did not see it.

Legend: M records, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import cross_outputs
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Opinion, Outputs
from broadbase.adapt.task import Task
from broadbase.core.errors import DataError
from broadbase.evidence.interval import LEVEL, Interval
from broadbase.inference.embedding import Done, ignored

FEWEST = 10  # labels


@dataclass(frozen=True)
class Doubts:
    """Labels of a task, the most doubtful first."""

    records: Indices  # [M]: their numbers in the task
    opinions: Sequence[Opinion]  # [M]
    wrong: Sequence[bool]  # [M]: whether a label is counted as wrong; empty where none is counted
    share: Interval | None  # of the labels that are wrong, with its 95 % interval over records


def doubts(
    encoder: Encoder, task: Task, method: MethodConfig, seed: int = 0, done: Done = ignored
) -> Doubts:
    """Judge the labels of all records by 5-fold cross-validation.

    DataError where there are too few.
    """
    if len(task.train) < FEWEST:
        raise DataError(
            f"task {task.name!r} has {len(task.train)} labels, too few to judge each by the others;"
            f" give {FEWEST} or more"
        )
    return judged(task, *cross_outputs(encoder, task, method, task.train, seed, done))


def judged(task: Task, outputs: Outputs, records: Indices) -> Doubts:
    """Judge the labels of `records` [M] by outputs [M,K] of models that did not see them.

    Probabilities are calibrated on the same outputs, with the labels as they are; a label is the
    more doubtful, the less its probability is (self-confidence in Northcutt et al. 2021, 3.2).
    The interval of the share is that over records; it does not cover an error of the models, which
    count their own mistakes where a task is hard.
    """
    labels, target = task.labels[records], task.target
    calibration = target.calibrate(outputs, labels)
    opinions = target.opinions(labels, outputs, calibration)
    wrong = target.wrong(labels, outputs, calibration)
    order = np.argsort([each.confidence for each in opinions], kind="stable")
    flags = [] if wrong is None else wrong[order].tolist()
    return Doubts(
        records=records[order],
        opinions=[opinions[i] for i in order],
        wrong=flags,
        share=share_of(flags, task.token_labels is not None) if flags else None,
    )


def share_of(wrong: Sequence[bool], per_token: bool) -> Interval:
    """Return the share that is wrong, with its Wilson interval (1927) over records.

    Tokens of a record depend on each other, so that their share has no interval.
    """
    count, size = sum(wrong), len(wrong)
    if per_token:
        return Interval(count / size)
    ends = binomtest(count, size).proportion_ci(LEVEL, method="wilson")
    return Interval(count / size, float(ends.low), float(ends.high))
