"""The work of `doubts`: the labels of a task that a base disputes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.adapt.adapted import DESCRIPTION, base_folder, described
from broadbase.adapt.compare import must_suit
from broadbase.adapt.doubts import Doubts
from broadbase.adapt.doubts import doubts as doubts_of
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.kinds import Kind
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.row_files import must_be_writable, row_file
from broadbase.adapt.task import Task
from broadbase.commands.options import log
from broadbase.commands.work.adapt import method_of
from broadbase.commands.work.labelled_data import LabelledData, task_of
from broadbase.commands.work.predict import must_not_be_read
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.report.records import brief_record, written_record
from broadbase.report.tables import print_table
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load

COLUMNS = {"origin": str, "label": str, "suggested": str, "confidence": float}
COUNTED = {"wrong": str}  # whether a label is counted as wrong
RECORD = {"record": str}


def doubts(
    model: Path,
    columns: Mapping[str, str | None],
    modality: str | None,
    method: str | None,
    kind: Kind | None,
    *,
    settings: Sequence[str],
    number: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the `number` most doubtful labels of the data, and write all of them to `out`.

    `columns` are the data and their columns. ConfigError where options do not fit, before any work.
    """
    base, chosen, read = _judge(model, method, settings)
    given = {name: value for name, value in columns.items() if value is not None}
    data = LabelledData(**{**read, **given})
    data.check(chosen, (), kind)
    if out is not None:
        must_be_writable(out)
        must_not_be_read(out, str(data.data), data.sources()[0])
    MachineConfig().prepare()
    loaded = load(base)
    task, progress = task_of(loaded, data, modality, kind, False, None), Progress(log)
    must_suit(loaded, task, chosen, len(task.labels))
    encoder = Encoder(loaded, task.modality)
    if chosen.reads_vectors:
        inputs = task.inputs(task.train)
        with progress.phase("computing embeddings", len(inputs.used)):
            encoder.keep(inputs, progress.done)
    with progress.phase("judging, steps", 5 * chosen.work):
        result = doubts_of(encoder, task, chosen, done=progress.done)
    if out is not None:
        kinds = COLUMNS | (COUNTED if result.wrong else {}) | RECORD
        with row_file(out, kinds) as file:
            file.write(_rows(task, result, len(result.opinions), written_record))
    _print(task, result, number, out, as_json)


def _judge(
    model: Path, method: str | None, settings: Sequence[str]
) -> tuple[Path, MethodConfig, dict[str, str]]:
    """Return the folder of the base, the method, and the columns that the data had in `adapt`.

    ConfigError where the base of an adapted folder has seen the labels.
    """
    if not (model / DESCRIPTION).exists():
        return model, method_of(method or "probe", settings), {}
    description = described(model)
    selection = description["facts"].get("selection")  # where one method was chosen among several
    adapted = MethodConfig.from_tree(selection["method"] if selection else description["method"])
    if adapted.saves_base:
        raise ConfigError(
            f"the base in {model} was trained on labelled records ({adapted.name}), so that it"
            " cannot judge them; give the base that it was made from, with --method"
        )
    chosen = method_of(method or adapted.name, settings) if method or settings else adapted
    names = ("field", "second", "label")
    read = {k: v for k, v in description["card"].get("read", {}).items() if k in names}
    return base_folder(model, description), chosen, read


def _rows(task: Task, result: Doubts, number: int, write: Any) -> list[dict[str, Any]]:
    """Return rows of the first labels, with the records as `write` writes them."""
    rows = []
    for i, (label, opinion) in enumerate(zip(result.records, result.opinions, strict=True)):
        if i == number:
            break
        record, origin = task.record_of(int(label))
        row = {"origin": origin, **opinion._asdict(), "record": write(task.raws[record])}
        rows.append(row | ({"wrong": "yes" if result.wrong[i] else "no"} if result.wrong else {}))
    return rows


def _print(task: Task, result: Doubts, number: int, out: Path | None, as_json: bool) -> None:
    """Print the first labels, and say how many are wrong."""
    if as_json:
        share = None if result.share is None else result.share._asdict()
        rows = _rows(task, result, number, written_record)
        echo(json.dumps({"labels": len(result.records), "wrong": share, "doubts": rows}))
    else:
        columns = [*COLUMNS, *(COUNTED if result.wrong else {}), *RECORD]
        rows = _rows(task, result, number, brief_record)
        print_table(rows, columns, f"{task.name}: the labels most in doubt")
    if result.share is not None:
        log.say(_count(len(result.records), result))
    if out is not None:
        log.say(f"all {len(result.records):,} labels in {out}, the most doubtful first")


def _count(labels: int, result: Doubts) -> str:
    """Say how many labels are counted as wrong."""
    share = result.share
    assert share is not None
    ends = "" if share.low is None else f" (95 %: {share.low:.1%} to {share.high:.1%})"
    return (
        f"{sum(result.wrong):,} of {labels:,} labels are counted as wrong, {share.mean:.1%}{ends};"
        " where a task is hard for the base, its own mistakes are among them"
    )
