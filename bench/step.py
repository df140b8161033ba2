"""A training step here and by the peers: same shape, batch, precision and optimiser.

python bench/step.py [SHAPE ...] [--rounds 5] [--steps 8] [--threads 2] [--sides SIDE ...] [--quick]

Each round is a process of each side in turn (A B C A B C); the first two steps of a process do not
count. Prints places a second (medians, least and most), CPU seconds a step, peak memory; then ours
beside each peer, beside the rate at which this machine multiplies fp32 matrices, and in memory.
Ours starts as `broadbase pretrain` does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass

import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.preload import relaunch
from broadbase.core.view import Segment, positions
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.train.config import TrainConfig
from broadbase.train.loop import Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import WSDConfig
from machine import BENCH, Row, description, matmul_rate, measured, peers, ratio, tell

WARM = 2


@dataclass(frozen=True)
class Shape:
    """A Llama with tied embeddings, and a step."""

    width: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int
    rows: int
    slots: int

    @property
    def flops(self) -> float:
        """Of products in a step: 6 a weight and place, and causal attention."""
        weights = self.layers * self.width * (4 * self.width + 3 * self.hidden)
        weights += self.vocabulary * self.width
        attention = 6 * self.layers * self.slots * self.width
        return (6 * weights + attention) * self.rows * self.slots


@dataclass(frozen=True)
class Side:
    """Who trains: this program, or a script in its environment; compiled or not."""

    environment: str | None = None
    script: str = ""
    compiled: bool = False


SIDES = {
    "ours": Side(),
    "Trainer": Side("training", "step.py"),
    "Trainer compiled": Side("training", "step.py", compiled=True),
    "litgpt": Side("litgpt", "litgpt_step.py"),
    "ours compiled": Side(compiled=True),
}
SHAPES = {
    "13.8M": Shape(384, 6, 6, 1024, 8192, 16, 512),
    "3M": Shape(192, 4, 6, 512, 8192, 8, 256),
}
REQUESTED = {  # of our speed over a side's
    ("13.8M", "Trainer"): 1.35,
    ("13.8M", "litgpt"): 1.2,
    ("13.8M", "Trainer compiled"): 1.0,
    ("3M", "Trainer"): 1.6,
}
SHARE = {"13.8M": 0.7}  # of the rate of products, at least
MEMORY = {"13.8M": 0.65}  # of Trainer's, at most


def ours(
    shape: Shape, steps: int, compiled: bool, given: Iterable[Batch] | None = None
) -> list[tuple[float, float]]:
    """In a process of its own: our loop on random ids, or what is given; seconds and CPU seconds of
    each step."""
    head_dim = shape.width // shape.heads
    attention = {"heads": shape.heads, "kv_heads": shape.heads, "head_dim": head_dim}
    block = {
        "attention": {"name": "grouped", **attention},
        "feedforward": {"name": "gated", "hidden_width": shape.hidden},
    }
    stack = [{"repeat": shape.layers, "block": block}]
    tower = {"name": "transformer", "width": shape.width, "layers": stack}
    text = {"name": "tokens", "discrete": {"vocab_size": shape.vocabulary}}
    tree = {"modalities": {"text": text}, "towers": {"main": tower}}
    model = ModelConfig.from_tree(tree).build()
    initialise(model, 0)
    ended: list[tuple[float, float]] = []

    def batches(_: int) -> Iterator[Batch]:
        for batch in given or random(shape, steps):
            yield batch
            ended.append((time.perf_counter(), time.process_time()))

    machine = MachineConfig(device="cpu", precision="fp32", compile="on" if compiled else "off")
    Trainer(
        config=TrainConfig(steps=steps, evaluate_every=10**9, save_every=10**9),
        model=model,
        objective=ObjectiveConfig.from_tree({"name": "causal"}).build(),
        corrupt={},
        optim=AdamWConfig(lr=1e-3).build(model),
        schedule=WSDConfig(),
        machine=machine,
        ranks=Ranks(torch.device("cpu")),
        journal=MetricsLog(),
        batches=batches,
        validation=lambda: (),
    ).train()
    return [(b - a, d - c) for (a, c), (b, d) in itertools.pairwise(ended)]


def random(shape: Shape, steps: int) -> Iterator[Batch]:
    """Rows of random ids, of which all but the first are told."""
    rng = torch.Generator().manual_seed(0)
    size = (shape.rows, shape.slots + 1)
    weight = torch.ones(size)
    weight[:, 0] = 0
    place = positions((shape.slots + 1,)).expand(shape.rows, -1, -1)
    for step in range(steps):
        ids = torch.randint(3, shape.vocabulary, size, generator=rng)
        segment = Segment("text", ids, place, loss_weight=weight)
        yield Batch(step, {"text": segment}, KeyedRandom(0, step))


@dataclass(frozen=True)
class Timed:
    """One process: medians over its steps, and its peak."""

    speed: float  # places a second
    cpu: float  # seconds a step, of all threads
    megabytes: float


def timed(side: Side, shape: Shape, options: argparse.Namespace) -> Timed:
    """A process of one side."""
    numbers = [str(number) for number in astuple(shape)]
    more = [str(options.steps + WARM), str(int(side.compiled))]
    command = [sys.executable, __file__, "--ours", *numbers, *more]
    if side.environment is not None:
        script = str(BENCH / "peers" / side.script)
        command = [str(peers(side.environment)), script, *numbers, *more]
    result = measured(command, threads=options.threads)
    steps = json.loads(result.said.splitlines()[-1])[WARM - 1 :]
    seconds, cpu = (statistics.median(each) for each in zip(*steps, strict=True))
    return Timed(shape.rows * shape.slots / seconds, cpu, result.megabytes)


def output(name: str, runs: Sequence[Timed]) -> str:
    """A side in a line."""
    speeds = [run.speed for run in runs]
    return (
        f"{name:16} {statistics.median(speeds):6.0f} tokens/s ({min(speeds):.0f} to"
        f" {max(speeds):.0f}), CPU {statistics.median(run.cpu for run in runs):.2f} s a step,"
        f" peak {max(run.megabytes for run in runs):.0f} MB"
    )


def rows(name: str, result: dict[str, list[Timed]], rate: float) -> Iterator[Row]:
    """Ours beside every peer, beside what this machine multiplies, and in memory."""
    shape, ours = SHAPES[name], result["ours"]
    speeds = [run.speed for run in ours]
    for side, runs in result.items():
        if SIDES[side].environment is None:
            continue
        low, middle, high = ratio([run.cpu for run in runs], [run.cpu for run in ours])
        more = f"By CPU time {middle:.2f} ({low:.2f} to {high:.2f}, 95 %)."
        reference = [run.speed for run in runs]
        bar = REQUESTED.get((name, side), 1.0)
        yield Row(f"{name} step", speeds, reference, "tokens/s", side, bar, more=more)
    if name in SHARE:
        done = [speed * shape.flops / (shape.rows * shape.slots) / 1e9 for speed in speeds]
        work, next_to = f"{name} step, products", "products of 1024 x 1024 alone"
        yield Row(work, done, [rate / 1e9] * len(done), "GFLOP/s", next_to, SHARE[name])
    if "Trainer" in result:
        a, b = ([run.megabytes for run in runs] for runs in (ours, result["Trainer"]))
        work, bar = f"{name} step, peak memory", MEMORY.get(name, 1.0)
        yield Row(work, a, b, "MB", "Trainer", bar, higher=False)


def main() -> None:
    """All sides in turns, of every shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=[], choices=[*SHAPES, []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--quick", action="store_true", help="two rounds of four steps")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 2, 4
    print(description(), f"{options.threads} threads, fp32", sep=", ")

    def each() -> Iterator[Row]:
        for name in options.shapes or SHAPES:
            result: dict[str, list[Timed]] = {side: [] for side in options.sides}
            for _ in range(options.rounds):
                for side, runs in result.items():
                    runs.append(timed(SIDES[side], SHAPES[name], options))
            print(f"\n{name}, {SHAPES[name].rows} rows of {SHAPES[name].slots} tokens")
            for side, runs in result.items():
                print(output(side, runs), flush=True)
            if "ours" in result:
                yield from rows(name, result, matmul_rate(options.threads))

    tell(each())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        relaunch("pretrain")
        *numbers, count, compiled = map(int, sys.argv[2:])
        print(json.dumps(ours(Shape(*numbers), count, bool(compiled))))
    else:
        main()
