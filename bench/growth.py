"""What more work costs: a step of four times the rows, and the checkpoints of a whole run.

    python bench/growth.py [--rounds 3] [--steps 60]

Runs of the recipe `bytes` on the standard library of the running Python. The time of a step is the
median of a run, here for each row of it; a checkpoint costs what the training loop waits in `save`,
the last one apart, after which nothing is left to do beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broadbase.commands.app import app
from broadbase.train.loop import Trainer
from broadbase.train.metrics_log import read
from machine import Row, description, measured, tell

FEW = ["data.validation_rows=1", "data.final_rows=1"]
DATA, DEPTH, WARM = "sample:python", "4", 5


def ours(folder: str, *settings: str) -> None:
    """In a process of its own: trains; prints seconds a step, and those spent saving."""
    spent: list[float] = []
    save = Trainer.save

    def timed(trainer: Trainer) -> None:
        began = time.perf_counter()
        save(trainer)
        spent.append(time.perf_counter() - began)

    Trainer.save = timed  # type: ignore[assignment,method-assign]
    changes = [word for setting in (*FEW, *settings) for word in ("--set", setting)]
    where = ["--data", DATA, "--depth", DEPTH, "--store", str(Path(folder).parent / "store")]
    app(["pretrain", "bytes", *where, "--out", folder, *changes], standalone_mode=False)
    steps = [row["seconds"] for row in read(Path(folder) / "metrics.jsonl") if "loss" in row]
    print(json.dumps({"step": statistics.median(steps[WARM:]), "all": steps, "saves": spent[:-1]}))


def requested(folder: Path, *settings: str) -> dict[str, Any]:
    """What such a process printed."""
    command = [sys.executable, __file__, "--ours", folder, *settings]
    result: dict[str, Any] = json.loads(measured(command, threads=2).said.splitlines()[-1])
    return result


def rows(folder: Path, rounds: int, steps: int) -> Iterator[Row]:
    """Both."""
    sides: dict[int, list[float]] = {8: [], 32: []}
    stall: list[float] = []
    for i in range(rounds):
        for count, seconds in sides.items():
            size = (f"data.sources.bytes.batch_size={count}", f"train.steps={steps}")
            result = requested(folder / f"{count}-{i}", *size, f"train.save_every={steps // 4}")
            seconds.append(result["step"] / count)
        stall.append(statistics.median(result["saves"]))
    work, peer = "seconds a row of a step of 32 rows", "of 8 rows"
    yield Row(work, sides[32], sides[8], "s", peer, 1.1, higher=False)
    every = 100
    run = [every * 32 * s for s in sides[32]]
    work = f"waiting for a checkpoint every {every} steps"
    yield Row(work, stall, run, "s", "the steps between two", 0.01, higher=False)


def main() -> None:
    """A line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    print(description(), "2 threads", sep=", ")
    with tempfile.TemporaryDirectory() as name:
        tell(rows(Path(name), options.rounds, options.steps))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    else:
        main()
