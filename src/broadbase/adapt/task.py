"""A labelled task, and its splits into few labels and a held-out test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.inputs import Inputs
from broadbase.adapt.splits import Indices, cut, cut_groups
from broadbase.adapt.target import Labels, Outputs, Target
from broadbase.adapt.targets.classes import ClassesTarget
from broadbase.adapt.targets.generation import GenerationTarget, as_labels
from broadbase.adapt.targets.numbers import NumbersTarget
from broadbase.adapt.targets.several import SeveralTarget
from broadbase.adapt.templates import PAIR, TEXT
from broadbase.core.errors import ConfigError, DataError

MANY = 10  # classes called by numbers: with more they may be numbers to predict
FAR = 1e100  # how far numbers to predict may spread, and its inverse how little


@dataclass(frozen=True)
class Task:
    """Raw records of one modality with a label each; groups stay on one side of every split.

    With a label for each token M counts tokens, and `token_labels` says where each of them is.
    """

    name: str
    modality: str
    raws: Sequence[Any]  # [M]; with `token_labels` the records, whose tokens [M] are labelled
    labels: Labels  # [M] or [M,K], as the target defines them
    target: Target  # what the labels are
    groups: NDArray[np.int64] | None = None  # [M], e.g. the file a chunk of code comes from
    token_labels: Indices | None = None  # [M,2]: the number of its record, and its position there
    unlabelled: Sequence[Any] = ()  # records without a label, for methods that learn from them
    read: bool = False  # whether records are cleaned and copies in groups (reading.as_read)
    test: Indices | None = None  # the labels to test on, where the data say which
    origins: Sequence[str] = ()  # where each record was read, where the data say so
    notes: tuple[str, ...] = ()  # what was left out of the data, and what is odd in them
    columns: tuple[str, ...] = ()  # the names of a record's columns, where the data have some

    @classmethod
    def from_records(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        labels: Sequence[str],
        groups: Sequence[str] | None = None,
        macro: bool = False,
    ) -> Task:
        """Make a task from the names of classes; DataError where there are fewer than two.

        With `macro` every class counts alike in the score.
        """
        classes = tuple(sorted(set(labels)))
        if len(classes) < 2:
            raise DataError(
                f"task {name!r} has {len(classes)} {'class' if len(classes) == 1 else 'classes'}"
                f" in {len(raws):,} records{_listed(classes)}; a task needs at least two: check the"
                " field of the labels (--label)"
            )
        number = {c: i for i, c in enumerate(classes)}
        coded = np.array([number[label] for label in labels], dtype=np.int64)
        target = ClassesTarget(classes=classes, macro=macro)
        return cls(name, modality, raws, coded, target, _numbered(groups))

    @classmethod
    def from_token_labels(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        labels: Sequence[str],
        groups: Sequence[str] | None = None,
        macro: bool = False,
    ) -> Task:
        """Make a task from one string per record: a letter, the class, for each of its tokens.

        The tokens of a record stay on one side of a split, with the tokens of its group.
        """
        owner = np.repeat(np.arange(len(raws)), [len(label) for label in labels])
        position = np.concatenate([np.arange(len(label)) for label in labels])
        names = groups or [str(i) for i in range(len(raws))]
        flat = cls.from_records(
            name, modality, raws, "".join(labels), [names[int(i)] for i in owner], macro
        )
        return replace(flat, token_labels=np.stack([owner, position], axis=1))

    @classmethod
    def from_values(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        values: Sequence[float],
        groups: Sequence[str] | None = None,
    ) -> Task:
        """Make a task from numbers; DataError names the first that is not finite, or a lone one."""
        numbers = np.array(values, dtype=np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(numbers))):
            raise DataError(f"task {name!r}: the label of record {bad[0]} is {numbers[bad[0]]}")
        if len(numbers) and (numbers == numbers[0]).all():
            raise DataError(f"task {name!r}: every label is {numbers[0]:g}; nothing can be learned")
        with np.errstate(over="ignore", invalid="ignore"):
            if len(numbers) and not 1 / FAR < numbers.std() < FAR:
                low, high = numbers.min(), numbers.max()
                raise DataError(
                    f"task {name!r}: labels from {low:g} to {high:g} cannot be computed with; give"
                    " them in another unit"
                )
        return cls(name, modality, raws, numbers, NumbersTarget(), _numbered(groups))

    @classmethod
    def from_texts(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        texts: Sequence[str],
        groups: Sequence[str] | None = None,
        exact: bool = False,
    ) -> Task:
        """Make a task from texts to be generated, scored by the F1 of words or by exact match.

        DataError where all are the same.
        """
        labels = as_labels([text.strip() for text in texts])
        if len(set(labels)) < 2:
            raise DataError(
                f"task {name!r}: every one of {len(labels):,} texts is the same; nothing can be"
                " learned: check their field (--label)"
            )
        return cls(name, modality, raws, labels, GenerationTarget(exact=exact), _numbered(groups))

    @classmethod
    def from_several(
        cls,
        name: str,
        modality: str,
        raws: Sequence[Any],
        labels: Sequence[Sequence[str]],
        groups: Sequence[str] | None = None,
    ) -> Task:
        """Make a task from the labels of each record, any number; DataError of fewer than two."""
        names = tuple(sorted({each for row in labels for each in row}))
        if len(names) < 2:
            raise DataError(
                f"task {name!r} has {len(names)} labels in {len(raws):,} records{_listed(names)}; a"
                " task of several labels needs at least two: check their field (--label)"
            )
        target = SeveralTarget(labels=names)
        coded = np.stack([target.indicators(row) for row in labels])
        return cls(name, modality, raws, coded, target, _numbered(groups))

    def inputs(self, chosen: Indices) -> Inputs:
        """Return the records, or the tokens, of some labels."""
        if self.token_labels is None:
            return Inputs([self.raws[int(i)] for i in chosen])
        return Inputs(self.raws, self.token_labels[chosen], per_token=True)

    @property
    def paired(self) -> bool:
        """Whether the records are pairs."""
        return Inputs(self.raws).paired

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of a record's columns, of one or of the two items of a pair."""
        return self.columns or (PAIR if self.paired else TEXT)

    def record_of(self, label: int) -> tuple[int, str]:
        """Return the number of the record that a label belongs to, and where that was read.

        Where tokens are labelled the position of the token is said too.
        """
        record, token = label, ""
        if self.token_labels is not None:
            record, token = (
                int(self.token_labels[label, 0]),
                f", token {self.token_labels[label, 1]}",
            )
        origin = self.origins[record] if self.origins else f"record {record}"
        return record, origin + token

    @property
    def train(self) -> Indices:
        """The labels to learn from: all that are not tested on."""
        everything = np.arange(len(self.labels))
        return everything if self.test is None else np.setdiff1d(everything, self.test)

    def score(self, outputs: Outputs, test: Indices) -> float:
        """Compute the metric of outputs [M,K] for the records `test`."""
        return self.target.score(self.labels[test], outputs)

    def constant(self) -> tuple[str, float]:
        """Return the best answer that reads no record: its name and its score."""
        name, outputs = self.target.constant(self.labels)
        return name, self.score(outputs, np.arange(len(self.labels)))

    @property
    def summary(self) -> str:
        """What the labels are, in one line."""
        return self.target.summary(self.labels)

    @property
    def hint(self) -> str:
        """What to do where the classes look like numbers; empty where they do not."""
        names = self.target.names
        if len(names) <= MANY or not all(map(_is_number, names)):
            return ""
        return f"; the {len(names):,} classes are numbers: add --regression to predict them"

    def split(self, labels: int, test: int, seed: int) -> tuple[Indices, Indices]:
        """`labels` training and up to `test` test records, classes in proportion, groups apart.

        With 0 labels the training records are none.
        """
        self._must_suffice(labels)
        everything, strata = np.arange(len(self.labels)), self.target.strata(self.labels)
        if self.groups is None:
            size = min(test, len(everything) - labels)
            pool, held = cut(everything, strata, len(everything) - size, size, seed)
        else:
            pool, held = self._pool(strata, test, seed)
        if len(pool) < labels:
            raise DataError(
                f"task {self.name!r}: with every group on one side, {len(pool)} records are left to"
                f" train on, too few for {labels} labels; ask for fewer labels"
            )
        if not labels:
            return pool[:0], held
        few = cut(pool, strata[pool], labels, len(pool) - labels, seed)[0]
        if len(np.unique(strata[few])) < 2:
            only = (self.target.names or ("",))[int(strata[few[0]])]
            raise DataError(
                f"task {self.name!r}: all {labels} labels of split {seed} are of class {only!r}, by"
                " far the commonest; ask for more labels"
            )
        return few, held

    def most(self, test: int, seeds: int) -> int:
        """Return how many labels every one of `seeds` splits has to train on, groups apart."""
        strata = self.target.strata(self.labels)
        return min(len(self._pool(strata, test, seed)[0]) for seed in range(seeds))

    def _pool(self, strata: Indices, test: int, seed: int) -> list[Indices]:
        """Return the labels to choose from and up to `test` others, groups apart."""
        assert self.groups is not None
        try:
            return cut_groups(strata, self.groups, test, seed)
        except ValueError as error:
            raise DataError(
                f"task {self.name!r} cannot be split for a test: {error}; give more records"
            ) from None

    def _must_suffice(self, labels: int) -> None:
        """Errors where the records, or the labels to learn from, are too few for the classes."""
        size, kinds = len(self.labels), len(self.target.names)
        if 0 < labels < kinds:
            raise ConfigError(
                f"task {self.name!r} has {kinds:,} classes, and {labels} labels cannot show one of"
                f" each; ask for {kinds} labels or more (--train-size){self.hint}"
            )
        if size < labels + max(2, kinds):
            of = f" in {kinds:,} classes" if kinds else ""
            raise DataError(
                f"task {self.name!r} has {size:,} records{of}, too few for {labels} labels and a"
                f" test; ask for fewer labels (--train-size){self.hint}"
            )


def _is_number(label: str) -> bool:
    try:
        return bool(np.isfinite(float(label)))
    except ValueError:
        return False


def _numbered(groups: Sequence[str] | None) -> NDArray[np.int64] | None:
    """Return the number of each record's group."""
    return None if groups is None else np.unique(np.array(groups), return_inverse=True)[1]


def _listed(classes: Sequence[str]) -> str:
    return f" ({', '.join(map(repr, classes))})" if classes else ""
