"""Adapters next to full fine-tuning of MiniLM: memory of a step, and scores on six tasks.

python bench/adapters.py memory
python bench/adapters.py scores [--tasks genre who ...]

Memory: what a process needs at its peak above what it has with the loaded base, while a method is
fitted in two steps of 8 records of 128 tokens; each method in a process of its own.

Scores: tasks of demo/text_tasks.py, 20 labels a class, 4 splits with the same records for each
method, defaults of the methods but for the settings below. Fixed before the first measurement.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.lora import LoRAMethodConfig
from broadbase.adapt.task import Task
from broadbase.demo import text_tasks
from broadbase.evidence.interval import paired_interval
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.weights.folder import load
from machine import description

BASE = Path("sample:minilm")
ROWS, TOKENS, STEPS = 8, 128, 2  # of the steps whose memory is measured
TASKS = ("genre", "subject", "who", "where", "bias", "review")
LABELS, SPLITS, TESTED = 20, 4, 300  # labels a class, splits, most held-out records
METHODS: dict[str, MethodConfig] = {
    "finetune": FinetuneConfig(),
    "lora": LoRAMethodConfig(),
    "dora": LoRAMethodConfig(adapter=DoRAConfig()),
    "ia3": LoRAMethodConfig(adapter=IA3Config(), lr=1e-2),
}
SCORED = ("finetune", "lora")


def resident(kind: str) -> float:
    """Resident memory of this process in MB: VmRSS now, or VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"{kind}:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1e3


def peak(name: str) -> None:
    """Print the megabytes that a method needs above the loaded base."""
    base = load(BASE)
    words = ("alpha", "beta", "gamma", "delta")
    raws = [" ".join(words[(i + j) % 4] for j in range(2 * TOKENS)) for i in range(ROWS)]
    while len(base.codec("text")[1].encode(raws[0]).values) > TOKENS:
        raws = [raw.rpartition(" ")[0] for raw in raws]
    task = Task.from_records("memory", "text", raws, [str(i % 2) for i in range(ROWS)])
    settings = METHODS[name].tree() | {"steps": STEPS, "batch": ROWS}
    method = MethodConfig.from_tree(settings)
    base.embed(["warm"])
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    fitted = method.fit(Encoder(base, "text", cache=None), task, np.arange(ROWS))
    print(resident("VmHWM") - before, fitted.parameters)


def memory() -> None:
    """Each method in a process of its own, three times."""
    rows = {}
    for name in METHODS:
        command = [sys.executable, __file__, "peak", name]
        done = [subprocess.run(command, capture_output=True, text=True, check=True)
                for _ in range(3)]  # fmt: skip
        numbers = [[float(x) for x in each.stdout.split()] for each in done]
        rows[name] = float(np.median([mb for mb, _ in numbers]))
        share = rows[name] / rows["finetune"]
        print(f"{name:10} {rows[name]:7.0f} MB, {share:.2f} of finetune; "
              f"{numbers[0][1]:,.0f} parameters", flush=True)  # fmt: skip


def chosen(names: list[str]) -> Iterator[Task]:
    """The tasks of these names."""
    yield from (task for task in text_tasks.tasks() if task.name in names)


def scores(names: list[str]) -> None:
    """Each task: the scores of the methods, and the interval of their paired difference."""
    base = load(BASE)
    within = 0
    for task in chosen(names):
        few = LABELS * len(task.target.names)
        tested = min(TESTED, len(task.labels) - few)
        by_name: dict[str, list[float]] = {}
        for name in SCORED:
            began = time.process_time()
            (row,) = compare(base, task, METHODS[name], [few], tested, SPLITS, random_init=False)
            by_name[name] = [*row.scores]
            print(f"{task.name:10} {name:10} {np.mean(by_name[name]):.3f}, "
                  f"{time.process_time() - began:.0f} CPU-s", flush=True)  # fmt: skip
        gap = paired_interval(by_name["lora"], by_name["finetune"])
        within += not gap.below_zero
        print(f"{task.name:10} lora - finetune {gap.mean:+.3f} ({gap.low:+.3f} {gap.high:+.3f})")
    print(f"not below full fine-tuning: {within} of {len(names)}")


def main() -> None:
    """One of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "scores", "peak"])
    parser.add_argument("method", nargs="?", choices=[*METHODS])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    options = parser.parse_args()
    if options.what == "peak":
        peak(options.method)
        return
    print(description())
    memory() if options.what == "memory" else scores(options.tasks)


if __name__ == "__main__":
    main()
