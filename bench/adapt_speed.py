"""Adapting MiniLM to 1,000 labelled texts, next to SetFit: seconds, and held-out accuracy.

    python bench/adapt_speed.py [--tasks subject who] [--splits 5] [--iterations 5] [--threads 2]

Fixed before the first measurement: the tasks (thousand_label_tasks.py); 1,000 records to train on
and up to 500 held out, in 5 splits; the methods probe (what `adapt` does by default) and finetune,
with their default settings. SetFit (Trainer, its default settings but `num_iterations`) gets the
same folder, records and splits. By its default it would take all pairs of 1,000 records, hours on a
CPU; `--iterations 5` are 10,000 pairs, and fewer or more may be given.

Time is that of learning, the model loaded before: ours reads the records, fits, and calibrates with
5 folds; SetFit's is `Trainer.train`. Each split is a process of each (A B A B). Bars: at most a
quarter of the time, and accuracy not below: the 95 % interval of the paired difference over splits
does not lie below 0. Nothing of either side was tuned on these tasks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.task import Task
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import load, model_folder
from machine import BENCH, Row, description, measured, peers, tell
from thousand_label_tasks import TASKS

TRAIN, TEST = 1000, 500
METHODS = ("probe", "finetune")
SCORES = {
    "accuracy": accuracy_score,
    "macro-F1": lambda truth, said: f1_score(truth, said, average="macro"),
}


def ours(method: str, folder: str, file: str, seed: str) -> None:
    """In a process of its own: prints the seconds of learning, and predictions of the test."""
    MachineConfig().prepare()
    base, data = load(folder), json.loads(Path(file).read_text())
    base.embed(["one"])
    texts, labels = zip(*data["train"], strict=True)
    cpu, wall = time.process_time(), time.perf_counter()
    task = Task.from_records("task", "text", list(texts), list(labels))
    encoder, chosen = Encoder(base, "text", cache=None), MethodConfig.from_tree({"name": method})
    train = np.arange(len(texts))
    if not chosen.trains_base:
        encoder.keep(task.inputs(train))
    fitted, _ = learn(encoder, task, chosen, train, int(seed))
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    tested, right = zip(*data["test"], strict=True)
    test = Task.from_records("task", "text", tested, right)
    best = fitted.outputs(test.inputs(np.arange(len(test.raws)))).argmax(axis=1)
    print(json.dumps({**spent, "labels": [task.target.names[i] for i in best]}))


def main() -> None:
    """Measure task by task, and print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["subject", "who"])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    print(description(), f"{options.threads} threads, {options.clock} time", sep=", ")
    tell(row for name in options.tasks for row in compared(TASKS[name](), options))


def compared(task: Task, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row of seconds for each method, with the scores of both sides."""
    folder, python = model_folder("sample:minilm"), peers("setfit")
    sides: dict[str, list[Any]] = {
        method: [sys.executable, __file__, "--ours", method, folder] for method in options.methods
    }
    sides["SetFit"] = [python, BENCH / "peers" / "classify.py", "setfit", folder]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for seed in range(options.splits):
        train, test = task.split(TRAIN, min(TEST, len(task.labels) - TRAIN), seed)
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "task.json"
            file.write_text(json.dumps({"train": pairs(task, train), "test": pairs(task, test)}))
            for side, command in sides.items():
                last = [options.iterations, seed] if side == "SetFit" else [seed]
                said = measured([*command, file, *last], options.threads).said.splitlines()[-1]
                result = json.loads(said)
                truth = [label for _, label in pairs(task, test)]
                result |= {name: score(truth, result["labels"]) for name, score in SCORES.items()}
                results[side].append(result)
    for method in options.methods:
        yield Row(
            work=f"{task.name}, {TRAIN} texts, {method}",
            ours=[result[options.clock] for result in results[method]],
            peers=[result[options.clock] for result in results["SetFit"]],
            unit="s",
            peer=f"SetFit, num_iterations {options.iterations}",
            goal=0.25,
            higher=False,
            more=" ".join(difference(name, results[method], results["SetFit"]) for name in SCORES),
        )


def pairs(task: Task, chosen: Any) -> list[tuple[str, str]]:
    """Return the texts of some records, each with the name of its class."""
    return [(task.raws[i], task.target.names[int(task.labels[i])]) for i in chosen]


def difference(name: str, results: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Say a score of both sides, and the interval of the paired difference over splits."""
    a, b = (np.array([result[name] for result in each]) for each in (results, others))
    said = f"{name} {a.mean():.3f}, SetFit {b.mean():.3f}"
    if len(a) < 2:
        return f"{said}."
    half = stats.t.ppf(0.975, len(a) - 1) * stats.sem(a - b)
    middle = (a - b).mean()
    verdict = "below" if middle + half < 0 else "not below"
    return f"{said}: {middle:+.3f} ({middle - half:+.3f} to {middle + half:+.3f}), {verdict}."


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    else:
        main()
