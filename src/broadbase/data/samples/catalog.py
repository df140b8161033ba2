"""Sample sets: real data that packages ship, enough for a first run without any of one's own."""

from __future__ import annotations

from itertools import islice
from typing import Any

from broadbase.core.config import hint
from broadbase.core.errors import DataError
from broadbase.core.sources import Record
from broadbase.data.samples.sets import SAMPLES, SampleSet


def sample(name: str) -> SampleSet:
    """Return a sample set by name; raise DataError with the nearest one."""
    if name not in SAMPLES:
        raise DataError(f"there is no sample set {name!r}{hint(name, SAMPLES)}")
    return SAMPLES[name]


def table() -> list[dict[str, Any]]:
    """Return a row for each sample set.

    A row has what the set holds, its origin and terms, and whether it is on this machine.
    """
    rows = []
    for name, each in SAMPLES.items():
        package = getattr(each.source, "origin", None)
        rows.append(
            {
                "name": name,
                "modality": each.modality,
                "holds": each.summary,
                "from": str(package) if package else "installed",
                "megabytes": each.megabytes,
                "licence": each.source.licence,
                "cached": package.cached if package else True,
            }
        )
    return rows


def first(name: str, count: int) -> list[Record]:
    """Return the first records of a sample set, fetching it where needed."""
    records = (r for r in sample(name).source.records() if isinstance(r, Record))
    return list(islice(records, count))
