"""Act three: adapt a published base to a table, and predict a file, by the commands themselves."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from broadbase.adapt.few_labels import balanced
from broadbase.core.errors import ResourceError
from broadbase.demo.borrow import TEXT
from broadbase.demo.tasks import subject

EACH, NEW = 20, 200  # labels of each class to learn from; other records to predict
PREDICTED = 5  # rows that are shown


@dataclass(frozen=True)
class Used:
    """The commands with what they printed, and some rows of the file that they wrote."""

    commands: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, str]]  # text, predicted label, its probability


def use(out: Path, console: Console) -> Used:
    """Write a table of labelled questions and one of others into `out`, adapt, and predict."""
    out.mkdir()
    task = subject()
    order = np.random.default_rng(0).permutation(len(task.labels))
    learned = balanced(task, order, EACH)
    new = np.setdiff1d(order, learned, assume_unique=True)[:NEW]
    table, names = out / "labelled.csv", task.target.names
    for path, chosen in ((table, learned), (out / "new.csv", new)):
        _write(path, ((task.raws[int(i)], names[int(task.labels[i])]) for i in chosen))
    predicted = out / "predicted.csv"
    lines = [
        ["adapt", TEXT, "--data", str(table), "--out", str(out / "subjects")],
        ["predict", str(out / "subjects"), "--data", str(out / "new.csv"), "--out", str(predicted)],
    ]
    commands = [(shlex.join(["broadbase", *line]), _run(line, console)) for line in lines]
    with predicted.open(encoding="utf-8", newline="") as file:
        rows = [next(reader) for reader in [csv.DictReader(file)] for _ in range(PREDICTED)]
    texts = [task.raws[int(i)] for i in new[:PREDICTED]]
    return Used(
        commands,
        [(t, row["label"], row["probability"]) for t, row in zip(texts, rows, strict=True)],
    )


def _write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _run(arguments: Sequence[str], console: Console) -> str:
    """Run a command of broadbase and return what it printed; ResourceError where it fails."""
    console.print(f"  $ broadbase {shlex.join(arguments)}", soft_wrap=True)
    command = [sys.executable, "-m", "broadbase", *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise ResourceError(f"`broadbase {shlex.join(arguments)}` failed: {done.stdout.strip()}")
    return done.stdout.strip()
