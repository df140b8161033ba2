"""The work of `adapt`: a base fitted to a labelled task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from broadbase.adapt.adapt import adapt as adapt_to
from broadbase.adapt.finetune import FinetuneConfig, finetune
from broadbase.adapt.method import Method
from broadbase.adapt.reading import as_read, kind_of, reader
from broadbase.adapt.result import TaskResult
from broadbase.adapt.task import read_task
from broadbase.commands.options import log
from broadbase.core.config import override
from broadbase.core.errors import ConfigError
from broadbase.core.terminal import echo
from broadbase.data.detect import labelled
from broadbase.data.sources.left_out import notes
from broadbase.report.tables import print_comparisons
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load, must_be_free, save


def adapt(
    model: Path,
    data: str,
    modality: str | None,
    method: Method,
    *,
    train_size: int,
    test_size: int,
    splits: int,
    field: str,
    label: str,
    regression: bool,
    per_token: bool,
    macro: bool,
    settings: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the scores of a model on a task against its random init and hand-made features.

    The fine-tuned model goes to `out`. ConfigError where options do not fit, before any work.
    """
    tuning = _tuning(method, settings, out)
    MachineConfig().prepare()
    base = load(model)
    source = labelled(data, field, label)
    kind = modality or kind_of(base, source)
    task = read_task(
        Path(data).stem,
        kind,
        source,
        regression=regression,
        per_token=per_token,
        read=reader(base, kind),
    )
    task = as_read(base, replace(task, macro=macro))
    for line in (task.summary, *task.notes, *notes(source)):
        log.say(line)
    (result,) = adapt_to(
        base,
        task,
        method,
        [train_size],
        test_size,
        splits,
        beside=True,
        settings=tuning,
        console=log,
    )
    if out is not None:
        train, _ = task.split(train_size, test_size, 0)
        save(finetune(base, task, train, tuning), out)
        log.say(f"fine-tuned model in {out}")
    _print(result, as_json)


def _print(result: TaskResult, as_json: bool) -> None:
    if as_json:
        echo(json.dumps([result.as_json()]))
    else:
        print_comparisons(result.comparisons, result.title)


def _tuning(method: Method, settings: Sequence[str], out: Path | None) -> FinetuneConfig:
    """Read the settings of fine-tuning; ConfigError where options do not fit, before any work."""
    if method is not Method.finetune:
        for given, option in ((out, "--out keeps"), (settings, "--set changes")):
            if given:
                raise ConfigError(f"{option} a fine-tuned model; add --method finetune")
    if out is not None:
        must_be_free(out)
    tree = FinetuneConfig().tree()
    for setting in settings:
        tree = override(tree, setting)
    return FinetuneConfig.from_tree(tree)
