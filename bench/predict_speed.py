"""`predict` next to sentence-transformers with scikit-learn: rows a second, same weights, CPU.

    python bench/predict_speed.py [--tasks who subject mail] [--rows 2000] [--rounds 5]

Fixed before the first measurement: the tasks (thousand_label_tasks.py), 400 of their records with
labels to learn from, and a CSV of `--rows` others, or as many as there are (of mails a tenth of
that), without a cache of embeddings. Both sides read the CSV, compute, and write a CSV of
labels and probabilities: ours as the command `predict` does, with a folder that was adapted by the
default method; the peer by `encode` in batches of 32 and a logistic regression of the last layer.
Both read 512 tokens of a text at most. Each round is a process of each (A B A B), which predicts
the file 3 times after loading and warming up. Cold start, from the start of the process to its
first prediction, is measured apart. Bar: 1.5 times the rows a second.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from broadbase.adapt.adapted import load_adapted
from broadbase.commands.work.predict import write_rows
from broadbase.data.detect import unlabelled
from broadbase.train.machine import MachineConfig
from broadbase.weights.folder import model_folder
from machine import BENCH, Row, description, measured, peers, tell
from thousand_label_tasks import TASKS

TRAIN, REPEATS = 400, 3


def ours(folder: str, table: str, out: str) -> None:
    """In a process of its own: prints the cold start, and the seconds of each prediction."""
    MachineConfig().prepare()
    adapted = load_adapted(folder)
    adapted.predict(["one"])
    cold = time.time() - psutil.Process().create_time()
    wall, cpu = list[float](), list[float]()
    for _ in range(REPEATS):
        began = time.process_time(), time.perf_counter()
        write_rows(adapted, table, unlabelled(table, "text", {}), Path(out))
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    print(json.dumps({"cold": cold, "wall": wall, "cpu": cpu}))


def main() -> None:
    """Measure task by task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    print(description(), f"{options.threads} threads, {options.clock} time, fp32", sep=", ")
    tell(row for name in options.tasks for row in compared(name, options))


def compared(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the row of a task."""
    task, count = TASKS[name](), options.rows // (10 if name == "mail" else 1)
    train, test = task.split(TRAIN, min(count, len(task.labels) - TRAIN), 0)
    count = len(test)
    with tempfile.TemporaryDirectory() as place:
        where = Path(place)
        learn_from(where, [(task.raws[i], task.target.names[int(task.labels[i])]) for i in train])
        with (where / "new.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([task.raws[i]] for i in test)])
        base = model_folder("sample:minilm")
        script, python = BENCH / "peers" / "classify.py", peers("setfit")
        files = [where / "new.csv", where / "out.csv"]
        commands: dict[str, list[Any]] = {
            "ours": [sys.executable, __file__, "--ours", where / "adapted", *files],
            "peer": [python, script, "predict", base, where / "train.json", *files, REPEATS],
        }
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
        for _ in range(options.rounds):
            for side, command in commands.items():
                said = measured(command, options.threads).said.splitlines()[-1]
                results[side].append(json.loads(said))
    rates = {
        side: [count / statistics.median(result[options.clock]) for result in each]
        for side, each in results.items()
    }
    cold = {side: statistics.median(r["cold"] for r in each) for side, each in results.items()}
    tokens = np.mean([len(task.raws[i].split()) for i in test])
    yield Row(
        work=f"predict, {name}: {count} rows of {tokens:.0f} words",
        ours=rates["ours"],
        peers=rates["peer"],
        unit="rows/s",
        peer="sentence-transformers with scikit-learn",
        goal=1.5,
        more=f"Cold start {cold['ours']:.1f} s, peer {cold['peer']:.1f} s.",
    )


def learn_from(folder: Path, records: list[tuple[str, str]]) -> None:
    """Write the records as JSON, and an adapted folder that learned them."""
    (folder / "train.json").write_text(json.dumps({"train": records}))
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *records])
    words = ["adapt", "sample:minilm", "--data", folder / "train.csv", "--modality", "text"]
    words += ["--no-baselines", "--no-cache", "--splits", "2", "--out", folder / "adapted"]
    measured([sys.executable, "-m", "broadbase", *words])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    else:
        main()
