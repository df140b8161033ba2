"""A labelled task, and its splits into few labels and a held-out test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, r2_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from broadbase.core.contracts import Record, Reject, SourceConfig
from broadbase.core.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Raw records of one modality with a class or a number each; groups stay on one side.

    Or with a class a place: then M counts places, and `places` tells whose and which each is.
    """

    name: str
    modality: str
    raws: Sequence[Any]  # [M]; with `places` the records, whose places [M] are labelled
    labels: NDArray[Any]  # [M] classes 0, 1, ... (int64), or numbers (float64)
    classes: tuple[str, ...] = ()  # empty where the labels are numbers
    groups: NDArray[np.int64] | None = None  # [M], e.g. the file a chunk of code comes from
    macro: bool = False  # score classes by the mean of their F1, rare ones as much as common ones
    places: Indices | None = None  # [M,2]: the number of its record, and the place in it

    @classmethod
    def from_records(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        labels: Sequence[str],
        groups: Sequence[str] | None = None,
    ) -> Task:
        """A task from label strings; DataError where there are fewer than two classes."""
        classes = tuple(sorted(set(labels)))
        if len(classes) < 2:
            raise DataError(
                f"task {name!r} has {len(classes)} class(es) in {len(raws)} records; a task needs"
                " at least two: check the label field"
            )
        number = {c: i for i, c in enumerate(classes)}
        grouped = None if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
        coded = np.array([number[label] for label in labels], dtype=np.int64)
        return cls(name, modality, raws, coded, classes, grouped)

    @classmethod
    def from_places(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        labels: Sequence[str],
        groups: Sequence[str] | None = None,
    ) -> Task:
        """A task from a string a record that has a letter, its class, for each place of it.

        The places of a record stay on one side, and with those of its group.
        """
        owner = np.repeat(np.arange(len(raws)), [len(label) for label in labels])
        place = np.concatenate([np.arange(len(label)) for label in labels])
        names = groups or [str(i) for i in range(len(raws))]
        flat = cls.from_records(
            name, modality, raws, "".join(labels), [names[int(i)] for i in owner]
        )
        return replace(flat, places=np.stack([owner, place], axis=1))

    @classmethod
    def from_values(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        values: Sequence[float],
        groups: Sequence[str] | None = None,
    ) -> Task:
        """A task from numbers; DataError names the first that is not finite."""
        numbers = np.array(values, dtype=np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(numbers))):
            raise DataError(f"task {name!r}: the label of record {bad[0]} is {numbers[bad[0]]}")
        grouped = None if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
        return cls(name, modality, raws, numbers, (), grouped)

    @property
    def metric(self) -> str:
        """How predictions are scored: accuracy or macro-F1 of classes, R2 of numbers."""
        if not self.classes:
            return "R2"
        return "macro-F1" if self.macro else "accuracy"

    @property
    def chance(self) -> float:
        """The score of the best answer that reads no record."""
        if not self.classes:
            return 0.0
        common = np.full(len(self.labels), np.bincount(self.labels).argmax())
        return self.score(common, np.arange(len(self.labels)))

    def score(self, predicted: NDArray[Any], test: Indices) -> float:
        """The metric of predictions for the records `test`."""
        truth = self.labels[test]
        if not self.classes:
            return float(r2_score(truth, predicted))
        if self.macro:
            there = np.unique(truth)
            return float(f1_score(truth, predicted, labels=there, average="macro", zero_division=0))
        return float((predicted == truth).mean())

    def split(self, labels: int, test: int, seed: int) -> tuple[Indices, Indices]:
        """`labels` training and up to `test` test records, classes in proportion, groups apart."""
        everything = np.arange(len(self.labels))
        if len(everything) < labels + len(self.classes):
            raise DataError(
                f"task {self.name!r} has {len(everything)} records, too few for {labels} labels and"
                " a test; ask for fewer labels"
            )
        strata = self._strata()
        if self.groups is None:
            size = min(test, len(everything) - labels)
            pool, held = next(self._stratified(size, seed).split(everything, strata))
        else:
            rng = np.random.default_rng(seed)
            splitter = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
            thirds = list(splitter.split(everything, strata, self.groups))
            pool, held = thirds[rng.integers(3)]  # the first always holds the largest group
            held = rng.permutation(held)[:test]
        if len(pool) < labels:
            raise DataError(
                f"task {self.name!r}: with every group on one side, {len(pool)} records are left to"
                f" train on, too few for {labels} labels; ask for fewer labels"
            )
        if len(pool) < labels + len(np.unique(strata)):  # too few left over to be drawn in strata
            return np.random.default_rng(seed).permutation(pool)[:labels], held
        pick = self._stratified(len(pool) - labels, seed, labels)
        few = next(pick.split(pool, strata[pool]))[0]
        return pool[few], held

    def _strata(self) -> Indices:
        """The classes; of numbers their fifths, so that every split spans the range."""
        if self.classes:
            return self.labels
        ranks = np.argsort(np.argsort(self.labels, kind="stable"), kind="stable")
        return ranks * 5 // len(ranks)

    def _stratified(self, test: int, seed: int, train: int | None = None) -> StratifiedShuffleSplit:
        return StratifiedShuffleSplit(1, test_size=test, train_size=train, random_state=seed)


def read_task(
    name: str,
    modality: str,
    source: SourceConfig,
    *,
    numeric: bool = False,
    places: bool = False,
) -> Task:
    """A task from the labelled records of a source; DataError names the first that has no label.

    `numeric` labels are numbers, to be predicted as such; where `places` are labelled, a label has
    a letter for each. Where records have groups, a record without one is a group of its own.
    """
    records: list[Record] = []
    values: list[float] = []
    for record in source.records():
        if isinstance(record, Reject):
            raise DataError(f"{record.place}: {record.reason}")
        if record.label is None:
            raise DataError(f"{record.place} has no label; name the field with --label")
        if numeric:
            try:
                values.append(float(record.label))
            except ValueError:
                raise DataError(f"{record.place}: label {record.label!r} is no number") from None
        records.append(record)
    raws, labels = [r.raw for r in records], [str(r.label) for r in records]
    groups = [r.group or r.place for r in records] if any(r.group for r in records) else None
    if numeric:
        return Task.from_values(name, modality, raws, values, groups)
    make = Task.from_places if places else Task.from_records
    return make(name, modality, raws, labels, groups)
