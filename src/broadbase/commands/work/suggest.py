"""The work of `suggest`: the records to label next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import kind_of, reader
from broadbase.adapt.row_files import must_be_writable, row_file
from broadbase.adapt.suggest import CANDIDATES, suggest_records
from broadbase.commands.options import log
from broadbase.commands.work.labelled_data import read_all
from broadbase.commands.work.predict import must_not_be_read
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record, SourceConfig
from broadbase.core.terminal import echo
from broadbase.data.detect import labelled, unlabelled
from broadbase.report.records import brief_record
from broadbase.report.tables import print_table
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load


def suggest(
    model: Path,
    data: str | None,
    pool: str | None,
    modality: str | None,
    field: str,
    label: str,
    *,
    number: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print `number` records to label, and write them to `out` with an empty column of labels.

    ConfigError where options do not fit, before any work; DataError where no record is left.
    """
    sources = _sources(data, pool, field, label)
    if out is not None:
        must_be_writable(out)
        for path, source in sources.items():
            must_not_be_read(out, path, source)
    MachineConfig().prepare()
    base = load(model)
    modality = modality or kind_of(base, next(iter(sources.values())))
    read, records = reader(base, modality), list[Record]()
    for path, source in sources.items():
        records += read_all(source, path, modality, read)
    having = [record for record in records if str(record.label or "").strip()]
    others = _unlabelled(records, having)
    encoder, progress = Encoder(base, modality), Progress(log)
    pool_inputs, labelled_inputs = (
        Inputs([record.raw for record in some]) for some in (others, having)
    )
    with progress.phase("computing embeddings", min(len(others), CANDIDATES) + len(having)):
        order = suggest_records(encoder, pool_inputs, labelled_inputs, number, done=progress.done)
    rows = [_row(others[i], field, label) for i in order]
    if out is not None:
        with row_file(out, dict.fromkeys(rows[0], str)) as file:
            file.write(rows)
        log.say(f"{len(rows):,} records to label in {out}, the best first")
    if as_json:
        echo(json.dumps(rows))
    elif out is None:
        shown = [{"origin": others[i].origin, "record": brief_record(others[i].raw)} for i in order]
        print_table(shown, ("origin", "record"), "label these next, the best first")


def _sources(data: str | None, pool: str | None, field: str, label: str) -> dict[str, SourceConfig]:
    """Return the sources by their paths; ConfigError where there is none."""
    sources = {} if data is None else {data: labelled(data, field, label)}
    if pool is not None:
        sources[pool] = unlabelled(pool, field, {})
    if not sources:
        raise ConfigError(
            "give the records to choose from: with --unlabelled, or a table with --data in which"
            " some rows have no label"
        )
    return sources


def _unlabelled(records: list[Record], having: list[Record]) -> list[Record]:
    """Return the records without a label, but for copies, and say how many there are."""
    seen = {content(record.raw) for record in having}
    others, copies = list[Record](), 0
    for record in records:
        if str(record.label or "").strip():
            continue
        if (digest := content(record.raw)) in seen:
            copies += 1
            continue
        seen.add(digest)
        others.append(record)
    left = f"; {copies:,} are copies of another and left out" if copies else ""
    if not others:
        raise DataError(
            f"every record has a label{left}; give records without one with --unlabelled"
        )
    few = f", of which {CANDIDATES:,} at random are looked at" if len(others) > CANDIDATES else ""
    log.say(f"{len(others):,} records without a label{few}, {len(having):,} with one{left}")
    return others


def _row(record: Record, field: str, label: str) -> dict[str, Any]:
    """Return a record as a row to fill in: of other records than texts where they are."""
    text = {field: record.raw} if isinstance(record.raw, str) else {}
    return {"origin": record.origin, **text, label: ""}
