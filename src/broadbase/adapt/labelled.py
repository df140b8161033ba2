"""The labelled records of a source; what has no label or cannot be read is counted.

A record without a label is left out, or kept for a method that learns from such records too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Record, Reject

REJECTS = 0.01  # the share of unusable records allowed, as in `prepare`
NAMED = 5  # classes that a note names

Read = Callable[[Any], Any]  # a raw record as it is read; ValueError where it is none
Check = Callable[[str], str | None]  # a label; None where it is missing, ValueError where it is bad


def as_it_is(raw: Any) -> Any:
    """Return a record unchanged."""
    return raw


class Row(NamedTuple):
    """A record with its label."""

    record: Record
    label: str
    part: int = 0  # the number of its source


@dataclass
class Labelled:
    """The labelled records of some sources, and what else these held."""

    labelled: list[Row] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # origins
    unlabelled: list[str] = field(default_factory=list)  # origins of those that are left out
    pool: list[Record] = field(default_factory=list)  # without a label, and kept
    pooled: int = 0  # the sources, from the first on, whose records without a label are kept
    used: int = 0  # records with a label that can be read
    spaced: int = 0  # labels with spaces around them
    lost: int = 0  # records that went with those rejected
    notes: list[str] = field(default_factory=list)

    def leave_out_single(self) -> None:
        """Leave out records whose class has no other: none would be left to test on."""
        counts = Counter(row.label for row in self.labelled)
        single = sorted(label for label, count in counts.items() if count == 1)
        self.labelled = [each for each in self.labelled if counts[each.label] > 1]
        named = ", ".join(map(repr, single[:NAMED])) + (", ..." if len(single) > NAMED else "")
        if len(single) == 1:
            self.notes.append(f"class {named} has 1 record and is left out: none would be tested")
        elif single:
            many = f"{len(single):,} classes have 1 record each and are left out"
            self.notes.append(f"{many}: {named}")

    @property
    def size(self) -> int:
        """All records that there were."""
        others = len(self.empty) + len(self.unlabelled) + len(self.pool)
        return self.used + self.lost + others

    def add(self, item: Record | Reject, read: Read, part: int = 0) -> None:
        """Sort a record of a source in by what can be done with it."""
        if isinstance(item, Reject):
            self._reject(item)
            return
        label = "" if item.label is None else str(item.label).strip()
        self.spaced += bool(label) and label != str(item.label)
        if not label and part >= self.pooled:
            self.unlabelled.append(item.origin)
            return
        try:
            row = Row(replace(item, raw=read(item.raw)), label, part)
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            self._reject(Reject(item.origin, str(error)))
            return
        if label:
            self.labelled.append(row)
            self.used += 1
        else:
            self.pool.append(row.record)

    def check(self, check: Check) -> None:
        """Keep the labels that `check` returns, and sort the others in by what is wrong."""
        rows, self.labelled = self.labelled, []
        for row in rows:
            try:
                label = check(row.label)
            except ValueError as error:
                self._reject(Reject(row.record.origin, str(error)))
                self.used -= 1
                continue
            if label is not None:
                self.labelled.append(row._replace(label=label))
                continue
            self.used -= 1
            if row.part < self.pooled:
                self.pool.append(row.record)
            else:
                self.unlabelled.append(row.record.origin)

    def _reject(self, item: Reject) -> None:
        if item.empty:
            self.empty.append(item.origin)
        else:
            self.rejected.append(item)
            self.lost += item.records

    def must_suffice(self, name: str, modality: str) -> None:
        """DataError where too many records cannot be used, or none has a label."""
        if self.lost > REJECTS * self.size:
            first = "\n  ".join(f"{each.origin}: {each.reason}" for each in self.rejected[:3])
            raise DataError(
                f"task {name!r}: {self.lost:,} of {self.size:,} records cannot be used as"
                f" {modality}, more than the {REJECTS:.0%} allowed:\n  {first}\nmend them, or give"
                " the modality that they are of (--modality) or a base that reads them"
            )
        if not self.labelled:
            if origins := [*self.unlabelled, *(record.origin for record in self.pool)]:
                raise DataError(
                    f"{origins[0]} has no label, and no other of the {self.size:,} records"
                    f" of task {name!r} has one; name the field of the labels with --label"
                )
            raise DataError(f"task {name!r} has no records; look at its --data")

    def summary(self) -> list[str]:
        """Say what was left out or kept without a label, one line for each reason."""
        reasons = (
            ([record.origin for record in self.pool], "have no label and join the unlabelled ones"),
            (self.unlabelled, "have no label and are left out"),
            (self.empty, "are empty and are left out"),
        )
        lines = [
            f"{len(at):,} of {self.size:,} records {what} (first: {at[0]})"
            for at, what in reasons
            if at
        ]
        if self.rejected:
            one = self.rejected[0]
            first = f"first: {one.origin}: {one.reason}"
            lines.append(f"{self.lost:,} of {self.size:,} records cannot be used ({first})")
        if self.spaced:
            lines.append(f"{self.spaced:,} labels had spaces around them, which were removed")
        return lines + self.notes
