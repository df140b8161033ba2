"""A task read from labelled data: its kind is guessed from the labels, and what is odd is noted."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from broadbase.adapt.given import newest_of, with_test
from broadbase.adapt.kinds import CLASSES, KINDS, Kind, guess
from broadbase.adapt.labelled import NAMED, Labelled, Read, as_it_is
from broadbase.adapt.task import Task
from broadbase.core.errors import DataError
from broadbase.core.sources import SourceConfig

MOST = 500  # records that are tested on by default
FEW = 20  # records that a score is hardly worth its name for
LARGE = 20_000_000  # indicators of classes: six tables of them take a gigabyte


def read_task(
    name: str,
    modality: str,
    *sources: SourceConfig,
    kind: Kind | None = CLASSES,
    macro: bool = False,
    by_time: bool = False,
    newest: int | None = None,
    read: Read = as_it_is,
    pooled: bool = False,
) -> Task:
    """Make a task from the labelled records of a source, each read by `read`.

    Several sources are given splits: of records to train on, of others for validation, and last of
    those to test on. With `by_time` a record's key is its time, and the newest are tested on: so
    many, by default a fifth, at most 500. `kind` says what labels are, None guesses it; with
    `macro` every class counts alike in the score. Where records have groups, a record without one
    is a group of its own. Records without a label, empty ones and classes of one record are left
    out, and the task's notes count them. With `pooled` records without a label become the task's
    `unlabelled`, except those of a source to test on.
    DataError where no record has a label, or more than 1 % cannot be used.
    """
    data = Labelled(pooled=max(1, len(sources) - 1) if pooled else 0)
    for part, source in enumerate(sources):
        for item in source.records():
            data.add(item, read, part)
    kind, notes = (kind, []) if kind is not None else _guessed(data)
    data.check(kind.check)
    data.must_suffice(name, modality)
    if kind.classed:
        data.leave_out_single()
    records, labels = [row.record for row in data.labelled], [row.label for row in data.labelled]
    raws = [record.raw for record in records]
    groups = [r.group or r.origin for r in records] if any(r.group for r in records) else None
    held = None
    if by_time:
        held = newest_of(records, newest or min(MOST, max(2, len(records) // 5)))
    elif len(sources) > 1:
        held = np.array([row.part == len(sources) - 1 for row in data.labelled], dtype=bool)
    try:
        task = kind.make(name, modality, raws, labels, groups, macro)
        task = replace(task, origins=[record.origin for record in records])
        if held is not None:
            task, leaks = with_test(task, held)
            notes += leaks
    except DataError as error:
        raise DataError(". ".join([str(error), *data.summary()])) from None
    pool = [record.raw for record in data.pool]
    return replace(task, unlabelled=pool, notes=(*notes, *data.summary(), *_odd(task)))


def _guessed(data: Labelled) -> tuple[Kind, list[str]]:
    """Return the kind that the labels look like, and the note that says so."""
    kind, why = guess([row.label for row in data.labelled])
    others = " or ".join(name for name in KINDS if name != kind.name)
    return kind, [f"labels are read as {kind.name}: {why} (otherwise say --kind {others})"]


def _odd(task: Task) -> list[str]:
    """Report what may be a mistake in the labels."""
    alike: dict[str, list[str]] = {}
    for name in task.target.names:
        alike.setdefault(_plain(name), []).append(name)
    twins = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    notes = [f"classes that may be the same: {'; '.join(twins[:NAMED])}"] if twins else []
    size, columns = len(task.labels), task.target.columns
    if size < FEW:
        notes.append(f"{size} records are few to score by; label 100 or more")
    if (numbers := size * columns) > LARGE:
        notes.append(
            f"{columns:,} classes of {size:,} records: ridge regression takes minutes and about"
            f" {48 * numbers / 1e9:.0f} GB; use --method knn, fewer classes, or a --train-size"
        )
    return notes + ([task.hint.removeprefix("; ")] if task.hint else [])


def _plain(label: str) -> str:
    """Remove the differences that people seldom mean from a label: case, spaces, 1 and 1.0."""
    try:
        return repr(float(label))
    except ValueError:
        return re.sub(r"[\s_-]+", " ", label).casefold().strip()
