"""How soon training starts on a small and on a large store, and how long a step waits for its data.

python bench/start.py [--megabytes 10 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from broadbase.run.run import Run
from broadbase.train.metrics_log import read
from machine import description, measured
from prepare import corpus

STEPS = 40  # of which a step and its data are timed
FEW = ["--set", "data.validation_rows=1", "--set", "data.final_rows=1"]


def prepared(folder: Path, megabytes: int) -> list[object]:
    """The command that trains one step on so many megabytes, prepared before."""
    corpus(folder / "texts", megabytes)
    command = [sys.executable, "-m", "broadbase"]
    measured(
        [*command, "prepare", "bytes", "--data", folder / "texts", "--store", folder / "store"]
    )
    train = [*command, "pretrain", "bytes", "--data", folder / "texts", "--store", folder / "store"]
    return [*train, "--depth", "4", *FEW, "--set", "train.steps=1"]


def waiting(folder: Path, command: list[object]) -> tuple[float, float]:
    """Seconds a step takes and seconds its batch takes to build, the medians."""
    measured([*command[:-1], f"train.steps={STEPS}", "--out", folder / "run"], threads=2)
    rows = [row for row in read(folder / "run" / "metrics.jsonl") if "loss" in row]
    step = statistics.median(row["seconds"] for row in rows)
    batches, times = Run.open(folder / "run").mixture().batches(0, STEPS), list[float]()
    began = time.perf_counter()
    for _ in islice(batches, STEPS):
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    return step, statistics.median(times)


def main() -> None:
    """A B A B; the difference of medians, and the share of a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs=2, default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {megabytes: Path(name) / str(megabytes) for megabytes in options.megabytes}
        for folder in folders.values():
            folder.mkdir()
        commands = {m: prepared(folder, m) for m, folder in folders.items()}
        seconds: dict[int, list[float]] = {m: [] for m in folders}
        for i in range(options.rounds):
            for m, command in commands.items():
                run = [*command, "--out", folders[m] / f"run{i}"]
                seconds[m].append(measured(run, threads=2).seconds)
        print(description())
        for m, times in seconds.items():
            print(f"{m} MB: one step done after {statistics.median(times):.1f} s", times)
        largest = max(folders)
        step, batch = waiting(folders[largest], commands[largest])
        print(
            f"a step takes {step * 1e3:.0f} ms, its batch {batch * 1e3:.1f} ms: {batch / step:.2%}"
        )


if __name__ == "__main__":
    main()
