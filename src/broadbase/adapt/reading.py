"""A task as a base reads it: records cleaned as in `prepare`, and equal ones kept together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.inputs import content, unordered
from broadbase.adapt.labelled import Read
from broadbase.adapt.splits import joined
from broadbase.adapt.task import Task
from broadbase.core.codec import Codec
from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Pair, Record, SourceConfig, each_part
from broadbase.inference.base import Base
from broadbase.modalities.audio import AudioCodec

SHARED = (
    "{:,} of {:,} pairs share an item with another pair, and splits may part these; --group FIELD"
    " keeps the pairs of one value together"
)


def reader(base: Base, modality: str) -> Read:
    """Return a function that cleans a record for the base; its ValueError says what is wrong.

    Of a pair both items are cleaned.
    """
    name, codec = base.codec(modality)
    kind = base.config.modalities[name]

    def read(raw: Any) -> Any:
        cleaned = kind.clean(raw)
        codec.encode(cleaned)
        return cleaned

    return partial(each_part, read)


def kind_of(base: Base, source: SourceConfig) -> str:
    """Find the first modality of the base that reads a source's first record; else its first."""
    first = next((item for item in source.records() if isinstance(item, Record)), None)
    for name in base.codecs if first is not None else ():
        try:
            reader(base, name)(first.raw)  # type: ignore[union-attr]
        except (TypeError, ValueError):
            continue
        return name
    return base.codec()[0]


def as_read(base: Base, task: Task) -> Task:
    """Clean the records of a task; records that are then equal are in one group.

    So are pairs of equal items in the other order.
    DataError names the first that is no record of the modality.
    """
    if task.read:
        return task
    name, codec = base.codec(task.modality)
    read, raws = reader(base, name), list[Any]()
    for i, raw in enumerate(task.raws):
        try:
            raws.append(read(raw))
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            origin = f"task {task.name!r}: record {i}"
            raise DataError(f"{origin} cannot be read as {name}: {error}") from None
    _must_align(codec, task, raws)
    task = replace(task, raws=raws, read=True)
    digests = np.array([content(raw) for raw in raws])
    same = np.array([unordered(raw) for raw in raws])
    copies = len(same) - len(np.unique(same))
    if task.test is not None:
        return task
    if task.paired and task.groups is None and (many := sharing(raws)):
        task = replace(task, notes=(*task.notes, SHARED.format(many, len(raws))))
    if not copies:
        return task
    notes = [
        f"{copies:,} of {len(raws):,} records are copies of another: all copies are trained on, or"
        " all tested"
    ]
    owner = np.arange(len(raws)) if task.token_labels is None else task.token_labels[:, 0]
    if task.token_labels is None and (odd := _contradicting(digests, task.labels)):
        notes.append(f"{odd:,} records have copies with another label")
    groups = joined(same[owner], owner if task.groups is None else task.groups)
    return replace(task, groups=groups, notes=(*task.notes, *notes))


def sharing(raws: Sequence[Pair]) -> int:
    """Count the pairs that share one item, and not both, with another pair."""
    partners: dict[str, set[str]] = {}
    digests = [(content(first), content(second)) for first, second in raws]
    for a, b in digests:
        partners.setdefault(a, set()).add(b)
        partners.setdefault(b, set()).add(a)
    return sum(len(partners[a]) > 1 or len(partners[b]) > 1 for a, b in digests)


def as_seen(codec: Codec, task: Task) -> Task:
    """Return the task with its records as the base sees them, for hand-made features.

    Records on a grid (pictures, clips) are brought to one size, by way of the codec's numbers;
    sound goes with its rate.
    """
    return replace(task, raws=[each_part(partial(_seen, codec), raw) for raw in task.raws])


def _seen(codec: Codec, raw: Any) -> Any:
    if isinstance(codec, AudioCodec):
        return raw, codec.config.rate
    if isinstance(raw, str):
        return raw
    sample = codec.encode(raw)
    return codec.decode(sample.values, sample.grid) if len(sample.grid) > 1 else raw


def _must_align(codec: Codec, task: Task, raws: Sequence[Any]) -> None:
    """DataError where labelled positions would not be those of the cleaned record."""
    if task.token_labels is None:
        return
    for i, (old, new) in enumerate(zip(task.raws, raws, strict=True)):
        if not np.array_equal(codec.encode(old).values, codec.encode(new).values):
            raise DataError(
                f"task {task.name!r}: record {i} is read in another spelling, {new!r:.60}, so that"
                " its labels do not fit; give it and its labels in that one"
            )


def _contradicting(digests: NDArray[Any], labels: NDArray[Any]) -> int:
    """Count the records that have an equal one with another label."""
    number = np.unique(digests, return_inverse=True)[1]
    pairs = np.unique(np.stack([number, np.unique(labels, return_inverse=True)[1]]), axis=1)
    kinds = np.bincount(pairs[0])
    return int((kinds[number] > 1).sum())
