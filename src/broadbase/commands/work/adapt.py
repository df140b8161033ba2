"""The work of `adapt`: a base fitted to a labelled task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.adapt.adapted import Adapted, must_be_free, save_adapted
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import as_read, kind_of, reader
from broadbase.adapt.result import TaskResult
from broadbase.adapt.task import Task, read_task
from broadbase.commands.options import log
from broadbase.core.config import override
from broadbase.core.terminal import echo
from broadbase.data.detect import labelled
from broadbase.data.sources.left_out import notes
from broadbase.inference.base import Base
from broadbase.report.tables import print_comparisons
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load

MOST = 500  # records that are tested on by default


def adapt(
    model: Path,
    data: str,
    modality: str | None,
    method: str,
    *,
    train_size: int | None,
    test_size: int | None,
    splits: int,
    field: str,
    label: str,
    regression: bool,
    per_token: bool,
    macro: bool,
    settings: Sequence[str],
    baselines: bool,
    out: Path | None,
    copy_base: bool,
    as_json: bool,
) -> None:
    """Print the scores of a base on a task, against its random init and hand-made features.

    What is learned from all labelled records goes to `out`. ConfigError where options do not fit,
    before any work.
    """
    chosen = method_of(method, settings)
    if out is not None:
        must_be_free(out)
    MachineConfig().prepare()
    base = load(model)
    kinds = {"regression": regression, "per_token": per_token, "macro": macro}
    task = _task(base, data, modality, field, label, kinds)
    tested = test_size or min(MOST, max(2, len(task.target.names), len(task.labels) // 5))
    few = train_size or len(task.labels) - tested
    (result,) = compare(
        base,
        task,
        chosen,
        [few],
        tested,
        splits,
        features=baselines,
        random_init=baselines,
        console=log,
    )
    if out is not None:
        read = {"data": data, "field": field, "label": label}
        save_adapted(_learned(base, task, chosen, read, result), out, model, copy_base)
        log.say(f"adapted base in {out}; use it with: broadbase predict {out} --data NEW")
    _print(result, as_json)


def _task(
    base: Base, data: str, modality: str | None, field: str, label: str, kinds: dict[str, bool]
) -> Task:
    """Read the labelled records as the base reads them, and say what they are."""
    source = labelled(data, field, label)
    modality = modality or kind_of(base, source)
    read = reader(base, modality)
    task = as_read(base, read_task(Path(data).stem, modality, source, read=read, **kinds))
    for line in (task.summary, *task.notes, *notes(source)):
        log.say(line)
    return task


def method_of(name: str, settings: Sequence[str] = ()) -> MethodConfig:
    """Return the method of that name with settings NAME=VALUE; ConfigError names a bad one."""
    tree = MethodConfig.from_tree({"name": name}).tree()
    for setting in settings:
        tree = override(tree, setting)
    return MethodConfig.from_tree(tree)


def _learned(
    base: Base, task: Task, method: MethodConfig, read: dict[str, Any], result: TaskResult
) -> Adapted:
    """Learn the task from all of its labelled records."""
    progress, encoder = Progress(log), Encoder(base, task.modality)
    everything = np.arange(len(task.labels))
    if not method.trains_base:
        inputs = task.inputs(everything)
        with progress.phase("reading all records", len(inputs.used)):
            encoder.keep(inputs, progress.done)
    with progress.phase("learning from all records, steps", 2 * method.work):
        fitted, calibration = learn(encoder, task, method, everything, done=progress.done)
    return Adapted(
        task=task.name,
        modality=task.modality,
        target=task.target,
        method=method,
        fitted=fitted,
        calibration=calibration,
        per_token=task.token_labels is not None,
        card={"read": read, "result": result.as_json()},
    )


def _print(result: TaskResult, as_json: bool) -> None:
    if as_json:
        echo(json.dumps([result.as_json()]))
    else:
        print_comparisons(result.comparisons, result.title)
