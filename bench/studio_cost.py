"""What an open page costs the training: seconds of a step with and without it; the bar is 1 %.

python bench/studio_cost.py --data FOLDER [--steps 2000] [--window 10]

One run is trained with a studio on its folder. A viewer opens the page for a window of seconds and
closes it for the next (A B A B): it asks as the page does, that is, it follows the events and
fetches what changed, at most once a second. A browser that draws the page is not counted. The
result is the median over pairs of neighbouring windows of the ratio of their mean seconds a step,
with its 95 % interval by a bootstrap over pairs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from broadbase.train.metrics_log import read
from machine import description

PROGRAM = [sys.executable, "-m", "broadbase"]
FIRST = 20  # steps that are left out, as memory is still being taken


def watch(address: str, is_open: threading.Event, ended: threading.Event) -> None:
    """Ask as a page does while it is open, until the training has ended."""
    while not ended.is_set():
        is_open.wait(1)
        with suppress(OSError), urlopen(f"{address}/events", timeout=5) as events:
            for line in events:
                if ended.is_set() or not is_open.is_set():
                    break
                if line.startswith(b"event: change"):
                    urlopen(f"{address}/live", timeout=5).read()
                    time.sleep(1)


def steps(run: Path) -> list[float]:
    """The seconds of each step so far."""
    return [float(row["seconds"]) for row in read(run / "metrics.jsonl") if "loss" in row]


def windows(root: Path, data: str, count: int, seconds: float) -> list[float]:
    """The mean seconds of a step in each window, the page closed in the first, then open."""
    command = [*PROGRAM, "studio", str(root), "--port", "0"]
    studio = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert studio.stderr is not None
    address = re.search(r"http://\S+", studio.stderr.readline())
    assert address is not None
    is_open, ended, run = threading.Event(), threading.Event(), root / "run"
    path = f"{address[0]}/runs/run"
    threading.Thread(target=watch, args=(path, is_open, ended), daemon=True).start()
    words = ["pretrain", "text", "--data", data, "--depth", "2", "--steps", str(count)]
    training = subprocess.Popen(
        [*PROGRAM, *words, "--set", "train.evaluate_every=100000", "--out", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while training.poll() is None and len(steps(run)) < FIRST:
        time.sleep(0.2)
    cuts = [len(steps(run))]
    while training.poll() is None:
        time.sleep(seconds)
        cuts.append(len(steps(run)))
        (is_open.clear if is_open.is_set() else is_open.set)()
    ended.set()
    studio.terminate()
    studio.wait()
    taken = steps(run)
    return [float(np.mean(taken[a:b])) for a, b in pairwise(cuts[:-1])]


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median by a bootstrap over pairs."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    """Measure the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--window", type=float, default=10.0)
    options = parser.parse_args()
    print(description())
    with tempfile.TemporaryDirectory() as folder:
        each = windows(Path(folder), options.data, options.steps, options.window)
    ratios = [b / a for a, b in zip(each[::2], each[1::2], strict=False)]
    for i, ratio in enumerate(ratios):
        print(f"without {each[2 * i]:.4f} s, with {each[2 * i + 1]:.4f} s, ratio {ratio:.4f}")
    ratio, (low, high) = float(np.median(ratios)), interval(ratios)
    verdict = "met" if ratio <= 1.01 else "missed"
    print(f"median {ratio:.4f} ({low:.4f} to {high:.4f}), goal 1.01: {verdict}")


if __name__ == "__main__":
    main()
