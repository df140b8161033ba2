"""The work of `evaluate`: a model on held-out data, compared with baselines."""

from __future__ import annotations

import json
from pathlib import Path

from broadbase.core.terminal import echo
from broadbase.evaluate.registry import evaluate as evaluate_run
from broadbase.evaluate.registry import evaluate_against, evaluate_task
from broadbase.report.charts import recall_matrix
from broadbase.report.tables import print_comparisons
from broadbase.run.run import Run
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load

DRAWING = "matrix.svg"  # in the run's folder: recall from each modality to each other


def evaluate(folder: Path, against: Path | None, data: str | None, as_json: bool) -> None:
    """Print the comparisons of a run's model: with baselines, with another model, or on a task.

    Recall between three modalities or more is drawn into the run's folder as well.
    """
    MachineConfig().prepare()
    run, base = Run.open(folder), load(folder)
    if data is not None:
        comparisons = evaluate_task(run, base, data)
    elif against is not None:
        comparisons = evaluate_against(run, base, load(against), against.name)
    else:
        comparisons = evaluate_run(run, base)
    drawing = recall_matrix(comparisons)
    if drawing is not None:
        (folder / DRAWING).write_text(drawing)
    if as_json:
        echo(json.dumps([comparison.as_json() for comparison in comparisons]))
    else:
        print_comparisons(comparisons, "held-out data, with 95 % intervals")
