"""The kinds of labelled data: what a written label is, and the task that such labels make.

Legend: M records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from broadbase.adapt.targets.several import SEPARATORS, separated
from broadbase.adapt.task import MANY, Task
from broadbase.core.trees import brief

WORDS = 2.0  # of a label on average, above which labels that differ are texts

Make = Callable[[str, str, Sequence[Any], Sequence[str], Sequence[str] | None, bool], Task]


@dataclass(frozen=True)
class Kind:
    """A kind of labels.

    `check` returns a stripped label, None where it is missing; its ValueError says what is wrong.
    `make` takes the task's name, the modality, records, labels, groups, and whether every class
    counts alike in the score.
    """

    name: str
    what: str  # in words
    check: Callable[[str], str | None]
    make: Make
    classed: bool = False  # whether a label is a class, and one of a single record is left out


def guess(labels: Sequence[str]) -> tuple[Kind, str]:
    """Return the kind that labels look like, and why; where nothing is special it is classes."""
    parts = [_parts(label) for label in labels]
    names = {name for row in parts for name in row}
    lists = sum(len(row) > 1 for row in parts)
    if lists and len(names) < len(set(labels)):
        return SEVERAL, f"{lists:,} of {len(labels):,} are lists of {len(names):,} names"
    numbers = [number for label in labels if (number := _number(label)) is not None]
    distinct = {number for number in numbers if math.isfinite(number)}
    if len(numbers) == len(labels) and distinct and not _few(distinct):
        return NUMBERS, f"all are numbers, {len(distinct):,} different ones"
    words = sum(len(label.split()) for label in labels) / max(1, len(labels))
    if len(set(labels)) > len(labels) / 2 and words > WORDS:
        what = f"{len(set(labels)):,} of {len(labels):,} differ, {words:.1f} words on average"
        return GENERATION, what
    return CLASSES, f"{len(set(labels)):,} different ones"


def _few(numbers: set[float]) -> bool:
    """Return whether numbers are few and integers, as names of classes are."""
    return len(numbers) <= MANY and all(each.is_integer() for each in numbers)


def _parts(label: str) -> list[str]:
    try:
        return separated(label)
    except ValueError:
        return [label]


def _number(label: str) -> float | None:
    """Return the number that a label is, NaN among them; None of a word."""
    try:
        return float(label)
    except ValueError:
        return None


def _any(label: str) -> str:
    return label


def _checked_number(label: str) -> str | None:
    number = _number(label)
    if number is not None and math.isnan(number):
        return None
    if number is None or math.isinf(number):
        raise ValueError(f"label {brief(label)} is no number")
    return label


def _checked_list(label: str) -> str:
    separated(label)
    return label


def _numbers(
    name: str,
    modality: str,
    raws: Sequence[Any],
    labels: Sequence[str],
    groups: Sequence[str] | None,
    _: bool,
) -> Task:
    return Task.from_values(name, modality, raws, [float(label) for label in labels], groups)


def _several(
    name: str,
    modality: str,
    raws: Sequence[Any],
    labels: Sequence[str],
    groups: Sequence[str] | None,
    _: bool,
) -> Task:
    return Task.from_several(name, modality, raws, [separated(each) for each in labels], groups)


def _texts(
    name: str,
    modality: str,
    raws: Sequence[Any],
    labels: Sequence[str],
    groups: Sequence[str] | None,
    _: bool,
    exact: bool = False,
) -> Task:
    return Task.from_texts(name, modality, raws, labels, groups, exact)


CLASSES = Kind("classes", "one class a record", _any, Task.from_records, classed=True)
NUMBERS = Kind("numbers", "a number a record", _checked_number, _numbers)
SEVERAL = Kind(
    "several", f"any number of labels a record, with {' or '.join(SEPARATORS)} between them",
    _checked_list, _several,
)  # fmt: skip
PER_TOKEN = Kind("per-token", "a letter for each token", _any, Task.from_token_labels)
GENERATION = Kind("generation", "a text that is generated", _any, _texts)
EXACT = replace(GENERATION, make=partial(_texts, exact=True))  # scored by exact match
KINDS = {kind.name: kind for kind in (CLASSES, NUMBERS, SEVERAL, PER_TOKEN, GENERATION)}
