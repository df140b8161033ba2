"""Few labels: a published base beside the best hand-made features and its own random init.

    python bench/few_labels.py run [BASE] --out FILE [--tasks genre who]
    python bench/few_labels.py report FILE

Eight text tasks (few_label_tasks.py) with 0, 2, 5, 10 and 20 labels a class. Half of the records,
at most 500, are held out (of `package` a third, its files apart); the labels are of the other half,
whose records without their labels are the pool. 10 splits. BASE is the sample base `minilm`, or a
folder. Fixed before the first measurement:

- Of the base, frozen: `names` (0 labels), `probe` (no pool) and `centroids` (with the pool).
- Of random init of the same network (one seed for all splits), the same.
- Hand-made, each with the same ridge or the same centroids: TF-IDF of characters, TF-IDF of words,
  LSA fitted with the pool, LSA centroids with the pool. "Best" is that with the best mean over the
  test records of a task, which favours it.
- Bar 1: at 5 labels a class `centroids` is held against the best hand-made features of all, which
  have the same pool; `probe` against the best of those without the pool. The base leads where the
  95 % t-interval of the paired differences over the splits is above 0. Splits overlap, so intervals
  are too narrow for new data. `names` is held against the best hand-made at 20 a class on subject,
  speciality, who and bias.
- Nothing is chosen on test records: `probe` chooses its layers by leave-one-out error, `centroids`
  has one setting for all, chosen on kinds of toxicity, docstrings and passages.

`run` appends a line of JSON for each task and number of labels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.features import BASELINES, classical
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.splits import Indices, cut_groups
from broadbase.adapt.task import Task
from broadbase.adapt.text_features import POOLED_CENTROIDS, WORDS
from broadbase.inference.base import Base
from broadbase.weights.folder import load
from few_label_tasks import CONTAMINATED, PHRASES, UNNAMED, tasks

LABELS, SPLITS, TEST = (2, 5, 10, 20), 10, 500  # labels a class, splits, most held-out records
METHODS: tuple[MethodConfig, ...] = (ProbeConfig(), CentroidsConfig())
BASE, RANDOM = "base", "random init"
POOLED = ("LSA with the pool", "LSA centroids with the pool")
BAR = 5
NAMED = ("subject", "speciality", "who", "bias")

Scores = dict[str, list[float]]


def split(task: Task, seed: int) -> tuple[Indices, Indices]:
    """The pool and the held-out records, classes in proportion; files stay on one side."""
    strata = task.target.strata(task.labels)
    if task.groups is not None:
        pool, held = cut_groups(strata, task.groups, TEST, seed)
        return pool, held
    order = np.random.default_rng(seed).permutation(len(strata))
    positions = np.argsort(np.argsort(strata[order], kind="stable"), kind="stable")
    return order[positions % 2 == 0], order[positions % 2 == 1][:TEST]


def balanced(task: Task, pool: Indices, each: int) -> Indices:
    """The first `each` records of every class in the pool."""
    labels = task.labels[pool]
    chosen = [pool[labels == label][:each] for label in np.unique(task.labels)]
    return np.concatenate(chosen)


def measured(base: Base, task: Task) -> Iterator[tuple[int, Scores]]:
    """Scores of everything over the splits, by the number of labels a class."""
    task = as_read(base, task)
    everything = task.inputs(np.arange(len(task.labels)))
    encoders = {BASE: Encoder(base, task.modality)}
    encoders[RANDOM] = Encoder(base.reinitialised(0), task.modality)
    for encoder in encoders.values():
        encoder.keep(everything)
    splits = [split(task, seed) for seed in range(SPLITS)]
    if task.name not in UNNAMED:
        names = NamesConfig(phrases=dict(PHRASES.get(task.name, {})))
        fitted = {k: names.fit(e, task, splits[0][0][:0]) for k, e in encoders.items()}
        yield (
            0,
            {
                f"{name}: names": [
                    task.score(f.outputs(task.inputs(held)), held) for _, held in splits
                ]
                for name, f in fitted.items()
            },
        )
    for each in LABELS:
        scores: Scores = {}
        for seed, (pool, held) in enumerate(splits):
            train = balanced(task, pool, each)
            rest = [task.raws[int(i)] for i in np.setdiff1d(pool, train)]
            pooled = replace(task, unlabelled=rest)
            for name, encoder in encoders.items():
                for method in METHODS:
                    outputs = method.fit(encoder, pooled, train).outputs(task.inputs(held))
                    row = scores.setdefault(f"{name}: {method.name}", [])
                    row.append(task.score(outputs, held))
            for choice in (BASELINES, WORDS, POOLED_CENTROIDS):
                for name, score in classical(pooled, choice).items():
                    scores.setdefault(name, []).append(score(train, held, seed))
        yield each, scores


def gap(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean paired difference and the ends of its 95 % t-interval."""
    differences = np.subtract(first, second)
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    mean = float(differences.mean())
    return mean, mean - float(half), mean + float(half)


def best(scores: Scores, pooled: bool) -> str:
    """The hand-made features with the best mean, of all or of those without the pool."""
    names = [name for name in scores if ":" not in name and (pooled or name not in POOLED)]
    return max(names, key=lambda name: np.mean(scores[name]))


def report(file: Path) -> None:
    """Print the table and how many tasks reach the bars."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    scores = {(row["task"], row["labels"]): row["scores"] for row in rows}
    leads = {method.name: list[str]() for method in METHODS}
    heads = "labels a class | random init | hand-made, best | probe | lead | centroids | lead"
    print(f"| task | {heads} |")
    print("|---|--:|--:|---|--:|---|--:|---|")
    for (task, each), row in scores.items():
        if not each:
            continue
        cells = []
        for method in METHODS:
            pooled = method.name == "centroids"
            own, other = row[f"{BASE}: {method.name}"], row[best(row, pooled)]
            mean, low, high = gap(own, other)
            cells += [f"{np.mean(own):.3f}", f"{mean:+.3f} ({low:+.3f} {high:+.3f})"]
            if each == BAR and low > 0:
                leads[method.name].append(task)
        random = max(np.mean(row[f"{RANDOM}: {method.name}"]) for method in METHODS)
        features = best(row, pooled=True)
        mark = "*" if task in CONTAMINATED else ""
        cell = f"{features} {np.mean(row[features]):.3f}"
        print(f"| {task}{mark} | {each} | {random:.3f} | {cell} | {' | '.join(cells)} |")
    print("\n| task, no labels | names | random init | hand-made, 20 labels a class | lead |")
    print("|---|--:|--:|--:|---|")
    above = []
    for (task, each), row in scores.items():
        if each:
            continue
        own, random = row[f"{BASE}: names"], row[f"{RANDOM}: names"]
        hand = scores[task, LABELS[-1]]
        other = hand[best(hand, pooled=True)]
        mean, low, high = gap(own, other)
        if task in NAMED and low > 0:
            above.append(task)
        means = f"{np.mean(own):.3f} | {np.mean(random):.3f} | {np.mean(other):.3f}"
        print(f"| {task} | {means} | {mean:+.3f} ({low:+.3f} {high:+.3f}) |")
    for method_name, led in leads.items():
        print(f"\n{method_name} leads at {BAR} labels a class, interval above 0: {len(led)} of 8")
    print(f"names above hand-made at 20 labels a class: {len(above)} of {len(NAMED)}")


def main() -> None:
    """Run tasks, or report what was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("base", nargs="?", default="sample:minilm")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--tasks", nargs="*")
    commands.add_parser("report").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        report(options.file)
        return
    base = load(options.base)
    for task in tasks():
        if options.tasks and task.name not in options.tasks:
            continue
        for each, scores in measured(base, task):
            line = {"task": task.name, "labels": each, "scores": scores}
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(task.name, each, {k: round(float(np.mean(v)), 3) for k, v in scores.items()})


if __name__ == "__main__":
    main()
