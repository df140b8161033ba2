"""What an open page costs the training: seconds of a step with and without it; the bar is 1 %.

python bench/studio_cost.py --data FOLDER [--steps 300] [--rounds 4]

The same run is trained again and again, every second time with a studio on its folder and a viewer
that asks as the page does: it follows the events and fetches what changed, at most once a second.
A browser that draws the page is not counted. Medians over the steps of a training, then the median
of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from broadbase.train.metrics_log import read
from machine import description

PROGRAM = [sys.executable, "-m", "broadbase"]
FIRST = 20  # steps that are left out, as memory is still being taken


def watch(address: str, ended: threading.Event) -> None:
    """Ask as a page does, until the training has ended."""
    while not ended.is_set():
        with suppress(OSError), urlopen(f"{address}/events", timeout=5) as events:
            for line in events:
                if ended.is_set():
                    return
                if line.startswith(b"event: change"):
                    urlopen(f"{address}/live", timeout=5).read()
                    time.sleep(1)
        time.sleep(0.5)


def train(root: Path, data: str, steps: int, page: bool) -> float:
    """The median seconds of a step."""
    shutil.rmtree(root / "run", ignore_errors=True)
    studio, ended = None, threading.Event()
    if page:
        command = [*PROGRAM, "studio", str(root), "--port", "0"]
        studio = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert studio.stderr is not None
        address = re.search(r"http://\S+", studio.stderr.readline())
        assert address is not None
        path = f"{address[0]}/runs/run"
        threading.Thread(target=watch, args=(path, ended), daemon=True).start()
    words = ["pretrain", "text", "--data", data, "--depth", "2", "--steps", str(steps)]
    subprocess.run([*PROGRAM, *words, "--out", str(root / "run")], check=True, capture_output=True)
    ended.set()
    if studio is not None:
        studio.terminate()
        studio.wait()
    rows = [float(row["seconds"]) for row in read(root / "run" / "metrics.jsonl") if "loss" in row]
    return statistics.median(rows[FIRST:])


def main() -> None:
    """The seconds of a step, without and with the page, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    print(description())
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            each = [
                train(Path(folder), options.data, options.steps, page) for page in (False, True)
            ]
            ratios.append(each[1] / each[0])
            print(
                f"without {each[0]:.4f} s, with {each[1]:.4f} s, ratio {ratios[-1]:.4f}", flush=True
            )
    ratio = statistics.median(ratios)
    print(f"median {ratio:.4f}, goal 1.01: {'met' if ratio <= 1.01 else 'missed'}")


if __name__ == "__main__":
    main()
