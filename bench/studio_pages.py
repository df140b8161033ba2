"""The server's time for the pages of runs: 200 listed in 0.5 s, one of 100,000 steps opened in 1 s.

python bench/studio_pages.py [--runs 200] [--steps 100000] [--rounds 5]

Every round asks a new application, which has read nothing yet, and then the same one again. The
journals are made up, the configs are of the recipe `text`. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from broadbase.recipes.recipe import find_recipe
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker
from broadbase.studio.app import studio_app
from broadbase.studio.bases import Bases
from machine import description

BARS = {"/runs": 0.5, "/runs/long": 1.0}  # seconds


def lines(steps: int) -> Iterator[str]:
    """A journal of two sources, with an evaluation every 100 steps."""
    random = np.random.default_rng(0)
    for step in range(1, steps + 1):
        text, code = (2 + 4 * np.exp(-step / 2000) + 0.1 * random.random(2)).tolist()
        row = {"step": step, "loss": {"text": text, "code": code}, "norm": 1.0, "tokens": 8192.0}
        row |= {"bits": {"text": text * 1.4, "code": code * 1.4}, "seconds": 0.25}
        yield json.dumps(row) + "\n"
        if step % 100 == 0:
            held_out = {"text": text, "code": code}
            yield (
                json.dumps({"step": step, "validation": held_out, "validation_bits": held_out})
                + "\n"
            )


def write_runs(root: Path, runs: int, steps: int) -> None:
    """Write `runs` runs of 300 steps, and one of `steps`."""
    config = find_recipe("text").build(4, str(root))
    for name, count in (*((f"run-{i}", 300) for i in range(runs)), ("long", steps)):
        (root / name).mkdir()
        config.save(root / name)
        with (root / name / "metrics.jsonl").open("w") as file:
            file.writelines(lines(count))


def opened(root: Path, path: str) -> tuple[float, float, float]:
    """Seconds until a new application has answered, and again; and the CPU seconds at first."""
    app = studio_app(root, Bases(root, {}, Worker(1), "cpu"), ServeConfig(), "token")
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    client.get("/healthz")
    times, cpu = [], []
    for _ in range(2):
        start, before = time.perf_counter(), time.process_time()
        assert client.get(path).status_code == 200
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - before)
    return times[0], times[1], cpu[0]


def main() -> None:
    """A line a page: seconds at first, seconds again, the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(description())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, options.runs, options.steps)
        for path, bar in BARS.items():
            times = [opened(root, path) for _ in range(options.rounds)]
            first, again, cpu = (statistics.median(each) for each in zip(*times, strict=True))
            verdict = "met" if first <= bar else "missed"
            words = f"{first:.2f} s ({cpu:.2f} s of CPU), again {again:.3f} s"
            print(f"{path:12} {words}; goal {bar} s: {verdict}")


if __name__ == "__main__":
    main()
