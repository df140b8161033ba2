"""What a training step spends its time on: a step of `bench/step.py`, taken apart.

python bench/anatomy.py [SHAPE ...] [--steps 1] [--threads 2]

By PyTorch's profiler, whose own cost is in the numbers: of each kind of work its share of the time,
its calls, and of products the rate. The rate of large products alone stands above: the limit. What
the profiler keeps of several steps takes the memory that they would use again: one is told best.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from broadbase.core.contracts import Batch
from broadbase.core.preload import relaunch
from machine import description, matmul_rate
from step import SHAPES, ours, random

KINDS = {  # by how an operation's name begins; the rest passes over its numbers one by one
    "products with weights": ("aten::mm", "aten::addmm"),
    "products in attention": ("aten::bmm", "aten::baddbmm"),
    "copies and fresh memory": ("aten::copy_", "aten::cat", "aten::fill_", "aten::empty"),
    "softmax and its backward": ("aten::_softmax", "aten::exp", "aten::logsumexp", "aten::amax"),
    "activation": ("aten::silu",),
    "optimiser": ("aten::_fused", "aten::_foreach"),
    "element by element": ("aten::",),
    "between operations": ("",),
}

WARM = 4  # steps before: their memory is fresh


def profiled(name: str, steps: int) -> list[str]:
    """A line a kind of work, that of most time first."""
    full = profile(activities=[ProfilerActivity.CPU], with_flops=True)

    def batches() -> Iterator[Batch]:
        for i, batch in enumerate(random(SHAPES[name], WARM + steps)):
            if i == WARM:  # the first touch fresh memory
                full.start()
            yield batch
        full.stop()

    ours(SHAPES[name], WARM + steps, False, batches())
    time, flops = defaultdict[str, float](float), defaultdict[str, float](float)
    calls = defaultdict[str, int](int)
    for event in full.key_averages():
        kind = next(kind for kind, begins in KINDS.items() if event.key.startswith(begins))
        time[kind] += event.self_cpu_time_total / 1e6
        calls[kind] += event.count
        flops[kind] += event.flops
    total, lines = sum(time.values()), []
    for kind in sorted(time, key=lambda kind: -time[kind]):
        rate = f", {flops[kind] / time[kind] / 1e9:.0f} GFLOP/s" if "products" in kind else ""
        each = calls[kind] / steps
        lines.append(f"{kind:26} {time[kind] / total:4.0%}  {each:7,.0f} calls a step{rate}")
    return lines


def main() -> None:
    """Each shape in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=[], choices=[*SHAPES, []])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rate = matmul_rate(options.threads) / 1e9
    print(description(), f"{options.threads} threads, fp32", sep=", ")
    print(f"products of 1024 x 1024 alone: {rate:.0f} GFLOP/s")
    for name in options.shapes or SHAPES:
        print(f"\n{name}", *profiled(name, options.steps), sep="\n", flush=True)


if __name__ == "__main__":
    relaunch("pretrain")
    main()
