"""The work of `predict`: a row for each record of new data."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.adapt.adapted import Adapted, described, load_adapted
from broadbase.adapt.predicting import Prediction, Predictor
from broadbase.adapt.row_files import must_be_writable, row_file
from broadbase.commands.options import log
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import SourceConfig
from broadbase.core.terminal import echo
from broadbase.data.detect import columns_at, unlabelled
from broadbase.train.machine import MachineConfig, find_device

EVERY = 10.0  # seconds between lines of progress


def predict(
    folder: Path,
    data: str,
    out: Path | None,
    *,
    field: str | None,
    second: str | None,
    label: str | None,
    key: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Write a row for each record of `data` to `out`, or to stdout.

    What can be refused is refused before the base is loaded. DataError where no record can be read;
    then there is no file.
    """
    description = described(folder)
    read = description["card"].get("read", {})
    columns = {} if key is None else {"key": key}
    head = ("origin", *columns)
    if description.get("paired"):
        columns["second"] = second or read.get("second", "second")
    elif second is not None:
        raise ConfigError(f"{folder} was not adapted to pairs; leave out --second")
    source = _source(data, field or read.get("field", "text"), label, read.get("label"), columns)
    if out is not None:
        must_be_writable(out)
        must_not_be_read(out, data, source)
    MachineConfig(device=device).prepare()
    adapted = load_adapted(folder, str(find_device(device)))
    ending = ".jsonl" if as_json else ".csv"
    predictor = write_rows(adapted, data, source, out, head, ending)
    _say(predictor, adapted, out)
    if as_json and out is not None:
        echo(json.dumps(_summary(predictor, adapted)))


def write_rows(
    adapted: Adapted,
    data: str,
    source: SourceConfig,
    out: Path | None,
    head: Sequence[str] = ("origin",),
    ending: str = ".csv",
) -> Predictor:
    """Write a row for each record of `data`; what predicted them has the counts and the score.

    DataError where no record can be read; then there is no file.
    """
    predictor = Predictor(adapted)
    columns = {**dict.fromkeys(head, str), **adapted.columns, "error": str}
    with row_file(out, columns, ending) as file:
        began = said = time.monotonic()
        for batch in predictor.batches(source.records()):
            file.write([_row(each) for each in batch])
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                rate = predictor.records / (said - began)
                log.say(f"{predictor.records:,} records, {rate:,.0f} a second")
        if predictor.unreadable == predictor.records:
            raise DataError(
                f"none of the {predictor.records:,} records of {data} can be read as"
                f" {adapted.modality} (first: {predictor.first or 'there is none'}); give records"
                " of the modality that the base was adapted to"
            )
    return predictor


def _source(
    data: str, field: str, label: str | None, usual: str | None, columns: Mapping[str, str]
) -> SourceConfig:
    """Return the source of the records, with their labels where the data have them.

    The column of labels is `label`, which must be there, or `usual`, which may.
    """
    if label is None and usual is not None and usual != field and usual in columns_at(data):
        label = usual
    return unlabelled(data, field, dict(columns) | ({} if label is None else {"label": label}))


def must_not_be_read(out: Path, data: str, source: SourceConfig) -> None:
    """ConfigError where `out` is a file of the data."""
    path = out.expanduser().resolve()
    if path == Path(data).expanduser().resolve() or source.would_read(path):
        raise ConfigError(f"{out} is, or would be, part of the data {data}; give another --out")


def _row(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a row of named values."""
    head = {"origin": prediction.origin, "key": prediction.key}
    return {**head, **prediction.values, "error": prediction.error or None}


def _say(predictor: Predictor, adapted: Adapted, out: Path | None) -> None:
    """Say how many records were predicted, what was odd with them, and the score."""
    where = "" if out is None else f" in {out}"
    lines = [f"{predictor.records - predictor.unreadable:,} records predicted{where}"]
    if predictor.unreadable:
        lines.append(f"{predictor.unreadable:,} cannot be read (first: {predictor.first})")
    if predictor.truncated:
        lines.append(
            f"{predictor.truncated:,} are longer than the {predictor.max_tokens:,} tokens that are"
            " read of a record"
        )
    lines += adapted.fitted.remarks
    if predictor.unscored:
        lines.append(f"{predictor.unscored:,} have a label that is none of the task's")
    if (score := predictor.score()) is not None:
        lines.append(_scored(*score, adapted))
    for line in lines:
        log.say(line)


def _scored(score: float, count: int, adapted: Adapted) -> str:
    """Compare a score of `count` labelled records with the one in adapted.json."""
    what = "tokens" if adapted.per_token else "records"
    said = f"{adapted.target.metric.name} on {count:,} {what} with a label: {score:.3f}"
    promised = _promised(adapted)
    return said if promised is None else f"{said}; adapted.json promises {promised:.3f}"


def _promised(adapted: Adapted) -> float | None:
    """Return the score of held-out records that adapted.json has; None where it has none."""
    scores: Sequence[float] = adapted.card.get("result", {}).get("scores", ())
    return sum(scores) / len(scores) if scores else None


def _summary(predictor: Predictor, adapted: Adapted) -> dict[str, Any]:
    """Return the counts and scores as plain values."""
    score = predictor.score()
    return {
        "records": predictor.records,
        "unreadable": predictor.unreadable,
        "truncated": predictor.truncated,
        "unscored": predictor.unscored,
        "metric": adapted.target.metric.name,
        "score": None if score is None else score[0],
        "scored": 0 if score is None else score[1],
        "promised": _promised(adapted),
    }
