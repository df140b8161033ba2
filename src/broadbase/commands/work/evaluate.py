"""The work of `evaluate`: a model on held-out data, compared with baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from broadbase.commands.options import log
from broadbase.core.errors import ResourceError
from broadbase.core.terminal import echo
from broadbase.data.detect import named
from broadbase.evaluate.registry import evaluate as evaluate_run
from broadbase.evaluate.registry import evaluate_against, evaluate_task
from broadbase.evidence.comparison import Comparison
from broadbase.report.charts import recall_matrix
from broadbase.report.tables import print_comparisons
from broadbase.run.evaluation import save
from broadbase.run.run import Run
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load

DRAWING = "matrix.svg"  # in the run's folder: recall from each modality to each other
FEW = 10  # documents that an interval is hardly worth its name for


def evaluate(folder: Path, against: Path | None, data: str | None, as_json: bool) -> None:
    """Print the comparisons of a run's model: with baselines, with another model, or on a task.

    Recall between three modalities or more is drawn into the run's folder as well.
    """
    if data is not None:
        named(data)  # a name that does not exist is refused before the model is loaded
    MachineConfig().prepare()
    run, base = Run.open(folder), load(folder)
    if data is not None:
        comparisons = evaluate_task(run, base, data)
    elif against is not None:
        comparisons = evaluate_against(run, base, load(against), against.name)
    else:
        comparisons = evaluate_run(run, base)
        with suppress(ResourceError):  # a run that may only be read
            save(folder, comparisons)
    for note in _few_documents(comparisons):
        log.say(note)
    drawing = recall_matrix(comparisons)
    if drawing is not None:
        (folder / DRAWING).write_text(drawing)
    if as_json:
        echo(json.dumps([comparison.as_json() for comparison in comparisons]))
    else:
        print_comparisons(comparisons, "held-out data, with 95 % intervals")


def _few_documents(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a note for each source whose intervals rest on few held-out documents."""
    sizes = {row.subject: len(row.per_item) for row in comparisons if row.per_item}
    return [
        f"{name}: {size} held-out documents are few, so the intervals are wide; hold out more of"
        " the data when you pretrain (--set data.holdout=0.2), or give more data"
        for name, size in sizes.items()
        if size < FEW
    ]
