"""The labelled records of a source; what has no label or cannot be read is left out and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.core.sources import Record, Reject
from broadbase.core.trees import brief

REJECTS = 0.01  # the share of unusable records allowed, as in `prepare`
NAMED = 5  # classes that a note names

Read = Callable[[Any], Any]  # a raw record as it is read; ValueError where it is none


def as_it_is(raw: Any) -> Any:
    """Return a record unchanged."""
    return raw


@dataclass
class Labelled:
    """The labelled records of a source, and what else it held."""

    regression: bool
    labelled: list[tuple[Record, str]] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # origins
    unlabelled: list[str] = field(default_factory=list)  # origins
    used: int = 0  # records with a label that can be read
    lost: int = 0  # records that went with those rejected
    notes: list[str] = field(default_factory=list)

    def leave_out_single(self) -> None:
        """Leave out records whose class has no other: none would be left to test on."""
        counts = Counter(label for _, label in self.labelled)
        single = sorted(label for label, count in counts.items() if count == 1)
        self.labelled = [each for each in self.labelled if counts[each[1]] > 1]
        named = ", ".join(map(repr, single[:NAMED])) + (", ..." if len(single) > NAMED else "")
        if len(single) == 1:
            self.notes.append(f"class {named} has 1 record and is left out: none would be tested")
        elif single:
            many = f"{len(single):,} classes have 1 record each and are left out"
            self.notes.append(f"{many}: {named}")

    @property
    def size(self) -> int:
        """All records that there were."""
        return self.used + self.lost + len(self.empty) + len(self.unlabelled)

    def add(self, item: Record | Reject, read: Read) -> None:
        """Sort a record in by what can be done with it."""
        if isinstance(item, Reject):
            self._reject(item)
            return
        label = self._label(item)
        if isinstance(label, Reject):
            self._reject(label)
        elif label is None:
            self.unlabelled.append(item.origin)
        else:
            try:
                self.labelled.append((replace(item, raw=read(item.raw)), label))
                self.used += 1
            except BroadbaseError:
                raise
            except (TypeError, ValueError) as error:
                self._reject(Reject(item.origin, str(error)))

    def _label(self, record: Record) -> str | Reject | None:
        label = None if record.label is None else str(record.label).strip()
        if not label or not self.regression:
            return label or None
        try:
            number = float(label)
        except ValueError:
            number = math.inf
        if math.isnan(number):
            return None
        if math.isfinite(number):
            return label
        return Reject(record.origin, f"label {brief(label)} is no number")

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
                f" {modality}, more than the {REJECTS:.0%} allowed:\n  {first}"
            )
        if not self.labelled:
            if self.unlabelled:
                raise DataError(
                    f"{self.unlabelled[0]} has no label, and no other of the {self.size:,} records"
                    f" of task {name!r} has one; name the field of the labels with --label"
                )
            raise DataError(f"task {name!r} has no records; look at its --data")

    def summary(self) -> list[str]:
        """Say what was left out, one line for each reason."""
        lines = [
            f"{len(at):,} of {self.size:,} records {what} and are left out (first: {at[0]})"
            for at, what in ((self.unlabelled, "have no label"), (self.empty, "are empty"))
            if at
        ]
        if self.rejected:
            one = self.rejected[0]
            first = f"first: {one.origin}: {one.reason}"
            lines.append(f"{self.lost:,} of {self.size:,} records cannot be used ({first})")
        return lines + self.notes
