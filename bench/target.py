"""Time to a loss: what Trainer reaches in five minutes, and how long we take to reach it.

python bench/target.py [--seconds 300] [--seeds 3] [--threads 2] [--clock wall] [--folder FOLDER]

The recipe `text` at depth 6 (3.4 M parameters) on the Brown corpus, which nothing was tuned on: its
own settings, but for the steps and the rows of one, which are Trainer's. Trainer trains the same
Llama, which has no norm of the embedding, on the same rows with the best of four learning rates and
schedules, chosen on the first seed by the very loss it is then measured with. Both schedules end
with the time. We get shares of its time, the shortest first, until every seed is at or below
Trainer's loss of that seed. transformers scores both sides on the same held-out rows. What is done
stays in the folder: after a stop it goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.core.preload import relaunch
from broadbase.recipes import text
from broadbase.run.run import Run
from machine import BENCH, Row, description, measured, peers, tell

DEPTH, HELD_OUT = 6, 256  # rows
SHARES = (4.0, 3.0, 2.5, 2.0, 1.5, 1.0)  # we get 1 / share of the time
TRIED = (  # Trainer's: learning rate, schedule
    (1e-3, "linear"),
    (2e-3, "linear"),
    (2e-3, "cosine"),
    (4e-3, "cosine"),
)
ROWS = 8  # a step; small batches served AdamW best
PILOT = 40  # steps that tell the speed


def trained(folder: Path) -> None:
    """In a process of its own: our training; prints its CPU and wall seconds.

    From the built loop to the model folder, the last evaluation counted.
    """
    run = Run.open(folder)
    cpu, wall = time.process_time(), time.perf_counter()
    run.train()
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


class Bench:
    """Trainings in a folder, each once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows, self.shape = self.folder / "rows.npz", self.folder / "shape" / "config.json"
        self.python = str(peers("training"))

    def requested(self, name: str, command: list[str | Path]) -> Any:
        """What a command printed last, once."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            result = json.loads(measured(command, self.options.threads).said.splitlines()[-1])
            file.write_text(json.dumps(result))
            print(name, result, file=sys.stderr, flush=True)
        return json.loads(file.read_text())

    def ours(self, steps: int, seed: int) -> dict[str, float]:
        """Seconds and loss of a training of ours."""
        name = f"ours-{steps}-{seed}"
        out = self.folder / name
        if not (out / "config.yaml").exists():
            config = text.build(DEPTH, "sample:brown")
            never = {"evaluate_every": 10**9, "save_every": 10**9}
            few = {"validation_rows": 1, "final_rows": 1}  # transformers scores
            mixed = config.data.sources["text"].replace(batch_size=ROWS)
            positions = {"store": str(self.folder / "store"), "sources": {"text": mixed}}
            data = config.data.replace(**few, **positions)
            train = config.train.replace(steps=steps, **never)
            more = {"data": data, "train": train, "seed": seed}
            Run.create(config.replace(**more), out)
        result = self.requested(name, [sys.executable, __file__, "--ours", out])
        self._output(out)
        return {**result, "loss": self.score(name, out / "model")}

    def _output(self, out: Path) -> None:
        """The rows of the store, and the shape as transformers calls it, for the peer."""
        if self.shape.exists():
            return
        result = dict[str, Any]()
        for split, name in (("train", "train"), ("validation", "held_out")):
            rows = Run.open(out).rows(split)["text"]
            count = min(len(rows), HELD_OUT) if name == "held_out" else len(rows)
            taken = rows.batch(range(count))
            result[f"{name} ids"] = taken.values.astype(np.int32)
            result[f"{name} scored"] = taken.weight > 0
        np.savez(self.rows, **result)
        self.shape.parent.mkdir()
        config = json.loads((out / "model" / "config.json").read_text())
        config["tie_word_embeddings"] = True  # ours share them too: the norm is what unties them
        self.shape.write_text(json.dumps(config))

    def reference(self, steps: int, seed: int, lr: float, schedule: str) -> dict[str, float]:
        """Seconds and loss of a training by Trainer."""
        name = f"trainer-{steps}-{seed}-{lr:g}-{schedule}"
        settings = self.folder / f"{name}.settings"
        output: dict[str, Any] = {"max_steps": steps, "seed": seed, "learning_rate": lr}
        output |= {"lr_scheduler_type": schedule, "warmup_steps": max(1, steps // 20)}
        settings.write_text(json.dumps({**output, "per_device_train_batch_size": ROWS}))
        script, out = BENCH / "peers" / "target.py", self.folder / name
        words = ["train", self.rows, self.shape, settings, out]
        result = self.requested(name, [self.python, script, *words])
        return {**result, "loss": self.score(name, out)}

    def score(self, name: str, model: Path) -> float:
        """Nats per token on the held-out rows, by transformers."""
        script = BENCH / "peers" / "target.py"
        return float(
            self.requested(f"{name}-loss", [self.python, script, "score", self.rows, model])
        )


def measure(bench: Bench, seconds: float, seeds: int, clock: str) -> Row:
    """How many times sooner we are where Trainer is after so many seconds."""
    our_pace = bench.ours(PILOT, 0)[clock] / PILOT
    their_pace = bench.reference(PILOT, 0, *TRIED[0])[clock] / PILOT
    steps = round(seconds / their_pace)
    tried = {setting: bench.reference(steps, 0, *setting) for setting in TRIED}
    best = min(tried, key=lambda setting: tried[setting]["loss"])
    reference = [bench.reference(steps, seed, *best) for seed in range(seeds)]
    for share in SHARES:
        ours = [bench.ours(round(seconds / share / our_pace), seed) for seed in range(seeds)]
        if all(a["loss"] <= b["loss"] for a, b in zip(ours, reference, strict=True)):
            reached = ""
            break
    else:
        reached = " Not reached by every seed."
    lr, schedule = best
    losses = [
        f"{name} {statistics.mean(run['loss'] for run in runs):.3f}"
        for name, runs in (("ours", ours), ("Trainer", reference))
    ]
    return Row(
        work=f"to Trainer's loss after {seconds:g} s, depth {DEPTH}, Brown, {seeds} seeds",
        ours=[run[clock] for run in ours],
        peers=[run[clock] for run in reference],
        unit="s",
        peer=f"Trainer (learning rate {lr:g}, {schedule})",
        goal=0.4,
        higher=False,
        more=f"Nats per token, held out: {', '.join(losses)}.{reached}",
    )


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--folder", type=Path, default=Path("runs/target"))
    options = parser.parse_args()
    print(description(), f"{options.threads} threads, {options.clock} time", sep=", ")
    tell([measure(Bench(options), options.seconds, options.seeds, options.clock)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        relaunch("pretrain")
        trained(Path(sys.argv[2]))
    else:
        main()
