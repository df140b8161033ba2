"""Splits that the data give: records to test on by a file of their own, or by their time.

Legend: M records, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.inputs import content, unordered
from broadbase.adapt.task import Task
from broadbase.core.errors import DataError
from broadbase.core.sources import Record, each_part, parts
from broadbase.core.trees import brief


def newest_of(records: Sequence[Record], count: int) -> NDArray[np.bool_]:
    """Return which records are the newest, [M]; as many as `count`, and none of an equal time.

    The key of a record is its time: a number, or a date as 2026-01-31 or 2026-01-31T12:00.
    DataError names the first that has none.
    """
    try:
        times = np.array([float(record.key) for record in records])
    except ValueError:
        times = np.array([_time(record) for record in records])
    order = np.sort(times)
    newest: NDArray[np.bool_] = times > order[max(0, len(order) - count - 1)]
    if not newest.any():
        raise DataError(
            f"the newest {int((times == order[-1]).sum()):,} records have one time, so that no"
            f" {count:,} of them are newer than others; give times that are finer, or a --test file"
        )
    return newest


def _time(record: Record) -> float:
    """Return the seconds of a record's date."""
    try:
        return datetime.fromisoformat(record.key.strip()).timestamp()
    except ValueError:
        raise DataError(
            f"{record.origin}: time {brief(record.key)} is no number and no date; write"
            " 2026-01-31 or 2026-01-31T12:00"
        ) from None


def with_test(task: Task, held: NDArray[np.bool_]) -> tuple[Task, list[str]]:
    """Return the task with the records `held` [M] to test on, and what is odd with these.

    Records to train on that equal one of the test, but for case, spaces and the order of a pair,
    are left out and counted. DataError where none is left on a side.
    """
    plain = [each_part(_plain, raw) for raw in task.raws]
    digests = np.array([unordered(raw) for raw in plain])
    leaked = ~held & np.isin(digests, digests[held])
    train = int((~held).sum())
    notes = [f"{int(held.sum()):,} records are tested on, {train - int(leaked.sum()):,} trained on"]
    if leaked.any():
        notes.append(
            f"leak: {int(leaked.sum()):,} of {train:,} records to train on equal one of the test,"
            " and are left out"
        )
    if task.paired and (many := _sharing(plain, held, leaked)):
        notes.append(
            f"{many:,} of {int(held.sum()):,} pairs that are tested on share an item with one that"
            " is trained on"
        )
    if leaked.sum() == train or not held.any():
        raise DataError(
            f"task {task.name!r} has no record to {'train' if held.any() else 'test'} on:"
            f" {'; '.join(notes)}; give other records"
        )
    task = _without(task, leaked, held)
    if len(np.unique(task.target.strata(task.labels)[task.train])) < 2:
        raise DataError(
            f"task {task.name!r}: all {len(task.train):,} labels to train on are alike:"
            f" {task.target.summary(task.labels[task.train])}; give records of other labels"
        )
    return task, notes


def _sharing(raws: Sequence[Any], held: NDArray[np.bool_], leaked: NDArray[np.bool_]) -> int:
    """Count the pairs of the test that have an item of a pair to train on."""
    digests = np.array([[content(item) for item in parts(raw)] for raw in raws])  # [M,2]
    trained = digests[~held & ~leaked]
    return int(np.isin(digests[held], trained).any(axis=1).sum())


def _without(task: Task, leaked: NDArray[np.bool_], held: NDArray[np.bool_]) -> Task:
    """Return the task without the records `leaked`, with the labels of `held` to test on."""
    tokens = task.token_labels
    owner = np.arange(len(task.raws)) if tokens is None else tokens[:, 0]
    kept = ~leaked[owner]
    number = np.cumsum(~leaked) - 1  # of a record that is kept
    if tokens is not None:
        tokens = np.stack([number[owner], tokens[:, 1]], axis=1)[kept]
    return replace(
        task,
        raws=[raw for raw, lost in zip(task.raws, leaked, strict=True) if not lost],
        origins=[origin for origin, lost in zip(task.origins, leaked, strict=False) if not lost],
        labels=task.labels[kept],
        groups=None if task.groups is None else task.groups[kept],
        token_labels=tokens,
        test=np.flatnonzero(held[owner][kept]),
    )


def _plain(raw: Any) -> Any:
    """Return a text without what makes no difference: case and spaces."""
    return " ".join(raw.split()).casefold() if isinstance(raw, str) else raw
