"""The raw records behind the rows of paired sources, which a store does not keep."""

from __future__ import annotations

from collections.abc import Collection

from broadbase.core.sources import Record
from broadbase.data.identity import identity
from broadbase.run.run import Run


def paired_records(run: Run, source: str, side: str, group: Collection[str] = ()) -> list[Record]:
    """Return the records of a paired source, row by row of one side of the split.

    `group` are the sources that must have a record; by default those it is paired with.
    """
    mixed = run.config.data.sources
    records = {
        identity(record, record.raw, paired=True).hex(): record
        for record in mixed[source].source.records()
        if isinstance(record, Record)
    }
    names = group or run.config.data.groups()[str(mixed[source].pair_group)]
    ids = set.intersection(*(set(run.stores[name].ids(side)) for name in names))
    return [records[id_] for id_ in sorted(ids)]
