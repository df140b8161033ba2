"""What every bench needs: the machine in words, the peers' environment, measured processes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import ArrayLike
from scipy import stats

from broadbase.train.speeds import speeds, use_onednn

BENCH = Path(__file__).parent


@dataclass(frozen=True)
class Measured:
    """A whole process: its start, its children and its end counted."""

    seconds: float
    megabytes: float  # resident at the peak, sampled five times a second
    said: str  # on stdout and stderr


@dataclass(frozen=True)
class Row:
    """One comparison of a bench: what is measured, of Broadbase and of one peer."""

    work: str
    ours: Sequence[float]  # by round, the peer's measured in between (A B A B)
    peers: Sequence[float]
    unit: str  # of both: "tokens/s", "MB"
    peer: str
    goal: float  # of the ratio
    higher: bool = True  # whether more is better, of these and of the ratio
    more: str = ""  # what else was seen

    @property
    def ratios(self) -> list[float]:
        """Return Broadbase's value over the peer's, round by round."""
        return [a / b for a, b in zip(self.ours, self.peers, strict=True)]

    @property
    def met(self) -> bool:
        """Whether the median ratio reaches the goal."""
        middle = statistics.median(self.ratios)
        return middle >= self.goal if self.higher else middle <= self.goal


def tell(rows: Iterable[Row]) -> None:
    """Print rows as they come, and into the file that $BENCH_ROWS names, for all.py."""
    result, file = list[Row](), os.environ.get("BENCH_ROWS")
    for row in rows:
        result.append(row)
        a, b, ratio = (statistics.median(n) for n in (row.ours, row.peers, row.ratios))
        low, high, word = min(row.ratios), max(row.ratios), "met" if row.met else "missed"
        print(
            f"{row.work}: {a:,.4g} {row.unit}, {row.peer} {b:,.4g}: {ratio:.2f} times"
            f" ({low:.2f} to {high:.2f}), goal {row.goal}: {word}. {row.more}",
            flush=True,
        )
    if file:
        Path(file).write_text(json.dumps([asdict(row) for row in result], indent=1))


def peers(name: str) -> Path:
    """The Python of the environment of peers/NAME.txt, which is made the first time."""
    home, requirements = BENCH / f".peers-{name}", BENCH / "peers" / f"{name}.txt"
    python, stamp, wanted = home / "bin" / "python", home / "installed", requirements.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing the peers", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement"]
        subprocess.run([*install, str(requirements)], check=True)
        stamp.write_text(wanted)
    return python


def measured(command: Sequence[object], threads: int = 1, *, once: bool = False) -> Measured:
    """Run a command to its end; CalledProcessError, with what it said, where it fails.

    With `once`, pages that its processes share are counted once (PSS), which slows them down.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks = [0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, once))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.monotonic() - began
    watcher.join()
    if process.returncode:
        print(said, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Measured(seconds, max(peaks) / 1e6, said)


def description() -> str:
    """The machine in one line."""
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} x {name}, {memory:.0f} GiB, Python {platform.python_version()}"


def ratio(there: ArrayLike, here: ArrayLike) -> tuple[float, float, float]:
    """The mean of there / here over paired rounds between the ends of its 95 % interval; with one
    round the ends are not known (nan)."""
    logs = np.log(np.asarray(there) / np.asarray(here))
    half = stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs) if len(logs) > 1 else np.nan
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return float(low), float(middle), float(high)


def matmul_rate(threads: int, size: int = 1024) -> float:
    """FLOP a second of fp32 products of matrices, by the better library, the best of 30."""
    use_onednn(speeds().onednn < speeds().torch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b, best = torch.randn(size, size), torch.randn(size, size), np.inf
    out = torch.empty(size, size)
    for _ in range(30):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    torch.set_num_threads(before)
    use_onednn(False)
    return float(2 * size**3 / best)


def _watch(pid: int, peaks: list[float], once: bool) -> None:
    while True:
        try:
            root = psutil.Process(pid)
            total = 0
            for process in (root, *root.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss if once else process.memory_info().rss
                except psutil.Error:
                    continue
            peaks.append(total)
        except psutil.Error:
            return
        time.sleep(0.2)
