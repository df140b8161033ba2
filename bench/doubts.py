"""Doubts: labels that were flipped, among those that a base disputes.

    python bench/doubts.py run [BASE] --out FILE [--tasks genre who]
    python bench/doubts.py report FILE

The eight text tasks of demo/text_tasks.py with all their labels, and the digits of the demo, which
this base does not read, by pixels. Of each 5 % of the labels, at least 5, become another class at
random; 5 seeds. Fixed before the first measurement:

- Every label is judged by `adapt.doubts` (5-fold cross-validation, self-confidence): by the base's
  frozen `probe`, and in the same way by ridge regression on TF-IDF of characters (on pixels).
- The peer is cleanlab 2.9: its label quality on the same probabilities, which should rank alike,
  and on its own, with its own cross-validation of logistic regression on the base's vectors of the
  last layer. A random ranking is another row.
- Score: AUROC of the flipped labels, whose own mistakes count against it: what was wrong before is
  not known. Bar: at least 0.85 on average over the seeds of a task.
- Beside it the number of labels that are counted as wrong, with and without the flips.
- Nothing is chosen on these tasks: probe, self-confidence and the count off the diagonal of the
  confident joint were chosen on those of tuning_tasks.py.

`run` appends a line of JSON for each task.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from broadbase.adapt.doubts import Doubts, doubts, judged
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.features import predictors
from broadbase.adapt.learning import cross_outputs, folds
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.task import Task
from broadbase.demo.tasks import digit
from broadbase.demo.text_tasks import tasks
from broadbase.evidence.interval import paired_interval
from broadbase.inference.base import Base
from machine import BENCH, peers
from run_report import main

SEEDS, SHARE, FEWEST, BAR = 5, 0.05, 5, 0.85
BASE, FEATURES, RANDOM = "base", "hand-made", "random"
SAME, PEER = "cleanlab, same probabilities", "cleanlab, its own models"
ROWS = (BASE, SAME, PEER, FEATURES, RANDOM)


def flipped(task: Task, seed: int) -> tuple[Task, NDArray[np.bool_]]:
    """The task with some labels that are wrong, and which [M]."""
    rng, size, classes = np.random.default_rng(seed), len(task.labels), task.target.columns
    chosen = rng.permutation(size)[: max(FEWEST, round(SHARE * size))]
    labels = task.labels.copy()
    labels[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return replace(task, labels=labels), np.isin(np.arange(size), chosen)


def by_features(task: Task, seed: int) -> tuple[Outputs, Indices]:
    """Outputs [M,K] by the first hand-made features of the modality, and of which records."""
    predict = next(iter(predictors(task).values()))
    parts = list(folds(task, np.arange(len(task.labels)), seed))
    outputs = np.concatenate([predict(fit, held) for fit, held in parts])
    return outputs, np.concatenate([held for _, held in parts])


def score(bad: NDArray[np.bool_], result: Doubts) -> float:
    """AUROC of the flipped labels [M] by how doubtful a label is."""
    confidence = [each.confidence for each in result.opinions]
    return float(roc_auc_score(bad[result.records], np.negative(confidence)))


def for_cleanlab(
    encoder: Encoder, task: Task, outputs: Outputs, records: Indices, file: Path
) -> None:
    """Write what the peer needs, in the order of `records`."""
    labels = task.labels[records]
    chances = softmax(outputs / task.target.calibrate(outputs, labels)["temperature"], axis=1)
    vectors = encoder.vectors(task.inputs(records), LAST)
    np.savez(file, labels=labels, chances=chances, vectors=vectors)


def measured(base: Base, task: Task) -> dict[str, Any]:
    """AUROC of everything by seed, and the numbers of labels that are counted as wrong."""
    task = as_read(base, task) if task.modality in base.codecs else task
    everything = np.arange(len(task.labels))
    encoder = Encoder(base, task.modality) if task.read else None
    if encoder is not None:
        encoder.keep(task.inputs(everything))
    scores: dict[str, list[float]] = {name: [] for name in ROWS}
    counts: dict[str, list[int]] = {"flipped": [], BASE: [], SAME: [], FEATURES: []}
    with tempfile.TemporaryDirectory() as name:
        shown = list[NDArray[np.bool_]]()  # which are flipped, in the order that the peer gets
        for seed in range(SEEDS):
            given, bad = flipped(task, seed)
            counts["flipped"].append(int(bad.sum()))
            by_chance = np.random.default_rng(seed).random(len(bad))
            scores[RANDOM].append(float(roc_auc_score(bad, by_chance)))
            result = judged(given, *by_features(given, seed))
            scores[FEATURES].append(score(bad, result))
            counts[FEATURES].append(sum(result.wrong))
            if encoder is not None:
                outputs, records = cross_outputs(encoder, given, ProbeConfig(), everything, seed)
                result = judged(given, outputs, records)
                scores[BASE].append(score(bad, result))
                counts[BASE].append(sum(result.wrong))
                shown.append(bad[records])
                for_cleanlab(encoder, given, outputs, records, Path(name) / f"{seed}.npz")
        if encoder is not None:
            subprocess.run([peers("doubts"), BENCH / "peers" / "doubts.py", name], check=True)
        for seed, bad in enumerate(shown):
            there = np.load(Path(name) / f"{seed}.npz.out.npz")
            scores[SAME].append(float(roc_auc_score(bad, -there["quality"])))
            scores[PEER].append(float(roc_auc_score(bad, -there["own"])))
            counts[SAME].append(int(there["wrong"]))
    before = None if encoder is None else sum(doubts(encoder, task, ProbeConfig()).wrong)
    size = len(everything)
    return {"records": size, "scores": scores, "counts": counts, "counted before": before}


def interval(values: Sequence[float]) -> str:
    """The mean and its 95 % t-interval."""
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:.3f} ({mean - half:.3f} {mean + half:.3f})"


def gap(first: Sequence[float], second: Sequence[float]) -> str:
    """The mean paired difference and its 95 % t-interval."""
    mean, low, high = paired_interval(first, second)
    return f"{mean:+.3f} ({low:+.3f} {high:+.3f})"


def report(file: Path) -> None:
    """Print the table and how many tasks reach the bar."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    print("| task | records | base | cleanlab, same | cleanlab, own | lead over it | hand-made |"
          " lead over it | random |\n|---|--:|---|--:|--:|---|--:|---|--:|")  # fmt: skip
    met = []
    for row in rows:
        scores = {name: each or [np.nan] * SEEDS for name, each in row["scores"].items()}
        means = {name: f"{np.mean(each):.3f}" for name, each in scores.items()}
        cells = [interval(scores[BASE]), means[SAME], means[PEER], gap(scores[BASE], scores[PEER])]
        cells += [means[FEATURES], gap(scores[BASE], scores[FEATURES]), means[RANDOM]]
        print(f"| {row['task']} | {row['records']} | {' | '.join(cells)} |")
        met += [row["task"]] if np.mean(scores[BASE]) >= BAR else []
    print(f"\nAUROC at least {BAR}: {len(met)} of {len(rows)}: {', '.join(met)}\n")
    print("| task | flipped | counted without flips | counted with them | cleanlab | hand-made |\n"
          "|---|--:|--:|--:|--:|--:|")  # fmt: skip
    for row in rows:
        cells = [f"{np.mean(row['counts'][n] or np.nan):.0f}" for n in (BASE, SAME, FEATURES)]
        flips, before = row["counts"]["flipped"][0], row["counted before"]
        print(f"| {row['task']} | {flips} | {before} | {' | '.join(cells)} |")


def rows(base: Base, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Measure each task."""
    for task in (*tasks(), digit()):
        if wanted(task.name):
            yield {"task": task.name, **measured(base, task)}


if __name__ == "__main__":
    main(__doc__, rows, report)
