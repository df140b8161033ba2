"""The table of few labels that `adapt --few-labels` shows before its result."""

from __future__ import annotations

import json
from typing import Any

from broadbase.adapt.label_table import LabelRow, is_classed, label_table
from broadbase.adapt.progress import Progress
from broadbase.adapt.task import Task
from broadbase.commands.options import log
from broadbase.core.terminal import echo
from broadbase.inference.base import Base
from broadbase.report.tables import print_table

COLUMNS = ("labels", "score", "95 % CI", "method", "hand-made", "features", "difference")
EVERY = 2.0  # seconds between lines of progress where a program reads them


def show_label_table(base: Base, task: Task, as_json: bool) -> None:
    """Print the table, or each row as a line of JSON as soon as it is measured."""
    progress = Progress(log, EVERY) if as_json else Progress(log)
    rows, classed = list[dict[str, Any]](), is_classed(task)
    for row in label_table(base, task, progress):
        if as_json:
            echo(json.dumps({"few_labels": row.as_json()}))
        rows.append(_row(row, classed))
    if not as_json:
        metric = task.target.metric.name
        title = f"{task.name}: {metric} by number of labels, means of 5 splits, 95 % intervals"
        print_table(rows, COLUMNS, title)


def _row(row: LabelRow, classed: bool) -> dict[str, Any]:
    """Return a row as it is printed."""
    if row.labels is None:
        labels = f"all ({row.train:,})"
    else:
        labels = f"{row.labels:,} of each class" if classed else f"{row.labels:,}"
    plain = row.as_json()
    mean, low, high = plain["score"]
    printed = {"labels": labels, "score": f"{mean:.3f}", "method": row.method}
    printed["95 % CI"] = f"{low:.3f} {high:.3f}"
    if plain["features_score"] is not None:
        printed["hand-made"] = f"{plain['features_score'][0]:.3f}"
        printed["features"] = row.features
        gap, low, high = plain["gap"]
        printed["difference"] = f"{gap:+.3f} ({low:+.3f} {high:+.3f})"
    return printed
