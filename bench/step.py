"""A training step here and in transformers' Trainer: same shape, batch, precision and optimiser.

python bench/step.py [SHAPE ...] [--rounds 3] [--steps 8] [--threads 2] [--compile]

Each round is a process of each (A B A B); the first two steps of a process do not count. Prints
places a second (medians), peak memory, and the ratio of each round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from dataclasses import astuple, dataclass

import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.random import Draws
from broadbase.core.view import Segment, positions
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.train.journal import Journal
from broadbase.train.loop import TrainConfig, Trainer
from broadbase.train.machine import MachineConfig
from broadbase.train.optim import AdamWConfig
from broadbase.train.ranks import Ranks
from broadbase.train.schedule import StableConfig
from machine import BENCH, Measured, description, measured, peers

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
    places: int


SHAPES = {
    "13.8M": Shape(384, 6, 6, 1024, 8192, 16, 512),
    "3M": Shape(192, 4, 6, 512, 8192, 8, 256),
}


def ours(shape: Shape, steps: int, compiled: bool) -> None:
    """In a process of its own: our loop on random ids; prints the seconds of each step."""
    head_dim = shape.width // shape.heads
    attention = {"heads": shape.heads, "kv_heads": shape.heads, "head_dim": head_dim}
    block = {
        "attention": {"name": "grouped", **attention},
        "feedforward": {"name": "gated", "hidden": shape.hidden},
    }
    stack = [{"repeat": shape.layers, "block": block}]
    tower = {"name": "transformer", "width": shape.width, "layers": stack}
    text = {"name": "tokens", "discrete": {"vocabulary": shape.vocabulary}}
    tree = {"modalities": {"text": text}, "towers": {"main": tower}}
    model = ModelConfig.from_tree(tree).build()
    initialise(model, 0)
    ended: list[float] = []

    def batches(start: int) -> object:
        rng = torch.Generator().manual_seed(0)
        size = (shape.rows, shape.places + 1)
        weight = torch.ones(size)
        weight[:, 0] = 0
        place = positions((shape.places + 1,)).expand(shape.rows, -1, -1)
        for step in range(start, steps):
            ids = torch.randint(3, shape.vocabulary, size, generator=rng)
            segment = Segment("text", ids, place, weight=weight)
            yield Batch(step, {"text": segment}, Draws(0, step))
            ended.append(time.perf_counter())

    machine = MachineConfig(device="cpu", precision="fp32", compile="on" if compiled else "off")
    Trainer(
        config=TrainConfig(steps=steps, evaluate_every=10**9, save_every=10**9),
        model=model,
        objective=ObjectiveConfig.from_tree({"name": "causal"}).build(),
        corrupt={},
        optim=AdamWConfig(lr=1e-3).build(model),
        schedule=StableConfig(),
        machine=machine,
        ranks=Ranks(torch.device("cpu")),
        journal=Journal(),
        batches=batches,  # type: ignore[arg-type]
        validation=lambda: (),
    ).train()
    print(json.dumps([b - a for a, b in itertools.pairwise(ended)]))


def asked(side: str, shape: str, options: argparse.Namespace) -> tuple[float, Measured]:
    """Places a second, and the process, of one side."""
    numbers = [str(number) for number in astuple(SHAPES[shape])]
    more = [str(options.steps + WARM), str(int(options.compile))]
    if side == "ours":
        command = [sys.executable, __file__, "--ours", shape, *more]
    else:
        command = [str(peers("training")), str(BENCH / "peers" / "step.py"), *numbers, *more]
    found = measured(command, threads=options.threads)
    seconds = json.loads(found.said.splitlines()[-1])[WARM - 1 :]
    return SHAPES[shape].rows * SHAPES[shape].places / statistics.median(seconds), found


def main() -> None:
    """A B A B of every shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), choices=[*SHAPES, []])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="both compiled")
    options = parser.parse_args()
    print(description(), f"{options.threads} threads, fp32, compile {options.compile}", sep=", ")
    for shape in options.shapes:
        found: dict[str, list[tuple[float, Measured]]] = {"ours": [], "Trainer": []}
        for _ in range(options.rounds):
            for side, runs in found.items():
                runs.append(asked(side, shape, options))
        for side, runs in found.items():
            speed = [round(places) for places, _ in runs]
            peak = max(process.megabytes for _, process in runs)
            print(f"{shape} {side}: {speed} places/s, peak {peak:.0f} MB")
        pairs = zip(found["ours"], found["Trainer"], strict=True)
        print(f"{shape}: {[round(a / b, 2) for (a, _), (b, _) in pairs]} times as fast", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(SHAPES[sys.argv[2]], int(sys.argv[3]), bool(int(sys.argv[4])))
    else:
        main()
