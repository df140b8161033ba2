"""The work of `adapt`: a base fitted to a labelled task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadbase.adapt.adapted import Adapted, must_be_free, save_adapted
from broadbase.adapt.bases import must_be_copied, open_base
from broadbase.adapt.compare import compare
from broadbase.adapt.compare_test import compare_test
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.kinds import Kind
from broadbase.adapt.learning import learn
from broadbase.adapt.method import MethodConfig, Selection
from broadbase.adapt.progress import Progress
from broadbase.adapt.result import TaskResult
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import MOST
from broadbase.commands.options import log
from broadbase.commands.work.label_table import show_label_table
from broadbase.commands.work.labelled_data import LabelledData, task_of, weights_of
from broadbase.core.config import override
from broadbase.core.terminal import echo
from broadbase.inference.base import Base
from broadbase.report.tables import print_comparisons, print_table
from broadbase.train.machine import MachineConfig

COLUMNS = ("method", "score", "95 % CI", "parameters", "seconds", "bytes", "note")


def adapt(
    model: Path,
    data: LabelledData,
    modality: str | None,
    method: str,
    kind: Kind | None,
    *,
    train_size: int | None,
    test_size: int | None,
    splits: int,
    macro: bool,
    class_weights: Sequence[str],
    settings: Sequence[str],
    baselines: bool,
    few_labels: bool,
    out: Path | None,
    copy_base: bool,
    as_json: bool,
) -> None:
    """Print the scores of a base on a task, against its random init and hand-made features.

    What is learned from all labelled records goes to `out`; where the data say what is tested on,
    from the others. A method that selects one of several says which, and why. ConfigError where
    options do not fit, before any work.
    """
    chosen, weights = method_of(method, settings), weights_of(class_weights)
    data.check(chosen, (train_size, test_size), kind)
    if out is not None:
        must_be_free(out)
    if copy_base:
        must_be_copied(model)
    data.sources()  # before the base is loaded
    MachineConfig().prepare()
    base = open_base(model)
    for line in base.unavailable:
        log.say(line)
    pooled = chosen.uses_unlabelled
    task = task_of(base, data, modality, kind, macro, test_size, weights, pooled)
    if few_labels:
        show_label_table(base, task, as_json)
    result = _tested(base, task, chosen, (train_size, test_size, splits), baselines)
    selection = None
    if out is not None or chosen.selects:
        learned = _learned(base, task, chosen, data.read, result)
        selection = learned.fitted.selection
        if out is not None:
            save_adapted(learned, out, model, copy_base)
            log.say(f"adapted base in {out}; use it with: broadbase predict {out} --data NEW")
    _print(result, selection, as_json)


def _sizes(
    task: Task, train_size: int | None, test_size: int | None, splits: int
) -> tuple[int, int]:
    """Return how many records each split trains and tests on, by default as many as there are."""
    kinds = len(task.target.names)
    tested = test_size or min(MOST, max(2, kinds, len(task.labels) // 5))
    if train_size is not None:
        return train_size, tested
    if task.groups is None:
        return len(task.labels) - max(tested, kinds), tested
    return task.most(tested, splits), tested


def _tested(
    base: Base,
    task: Task,
    method: MethodConfig,
    sizes: tuple[int | None, int | None, int],  # records to train on and to test on, splits
    baselines: bool,
) -> TaskResult:
    """Compare the base with its baselines, on its own test or on random splits."""
    random_init = baselines and not base.unavailable
    given: dict[str, Any] = {"features": baselines, "random_init": random_init, "console": log}
    if task.test is not None:
        return compare_test(base, task, method, **given)
    few, tested = _sizes(task, *sizes)
    (result,) = compare(base, task, method, [few], tested, sizes[2], **given)
    return result


def method_of(name: str, settings: Sequence[str] = ()) -> MethodConfig:
    """Return the method of that name with settings NAME=VALUE; ConfigError names a bad one."""
    empty = MethodConfig.from_tree({"name": name}).tree()
    tree = dict(empty)
    for setting in settings:
        field = setting.partition("=")[0].partition(".")[0].strip()
        if empty.get(field) == {}:  # fields with names of their own, such as phrases
            tree[field] = {**tree[field], **override(empty, setting)[field]}
        else:
            tree = override(tree, setting)
    return MethodConfig.from_tree(tree)


def _learned(
    base: Base, task: Task, method: MethodConfig, read: dict[str, Any], result: TaskResult
) -> Adapted:
    """Learn the task from all of its labelled records but those of its own test."""
    progress, encoder = Progress(log), Encoder(base, task.modality)
    if method.reads_vectors:
        inputs = task.inputs(task.train)
        with progress.phase("reading all records", len(inputs.used)):
            encoder.keep(inputs, progress.done)
    work = method.work * (1 if task.target.generates else 2)  # two with that for calibration
    with progress.phase("learning from all records, steps", work):
        fitted, calibration = learn(encoder, task, method, task.train, done=progress.done)
    card = {"read": read, "result": result.as_json()}
    if fitted.selection is not None:
        card["selection"] = fitted.selection.as_json()
    return Adapted(
        task=task.name,
        modality=task.modality,
        target=task.target,
        method=method,
        fitted=fitted,
        calibration=calibration,
        per_token=task.token_labels is not None,
        card=card,
        paired=task.paired,
    )


def _print(result: TaskResult, selection: Selection | None, as_json: bool) -> None:
    if as_json:
        also = {} if selection is None else {"selection": selection.as_json()}
        echo(json.dumps([result.as_json() | also]))
        return
    print_comparisons(result.comparisons, result.title)
    for line in filter(None, (result.spread, *result.remarks)):
        echo(line)
    if selection is not None:
        title = f"{result.method}: {result.metric.name} of the candidates by cross-validation"
        print_table([_row(trial) for trial in selection.trials], COLUMNS, title)
        echo(f"recommended: {selection.method.name}, because {selection.reason}")


def _row(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a candidate as it is printed."""
    row = {**trial, "parameters": f"{trial['parameters']:,}" if "parameters" in trial else ""}
    row["bytes"] = f"{trial['bytes']:,}" if "bytes" in trial else ""
    row["seconds"] = f"{trial['seconds']:.2f}" if "seconds" in trial else ""
    if "low" in trial:
        row["95 % CI"] = f"{trial['low']:.3f} {trial['high']:.3f}"
    return row
