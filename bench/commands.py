"""The CPU time of commands that need no model, against `import torch`: the bar is 0.4 s each.

python bench/commands.py [--rounds 5]

CPU time is that of the process, user and system. All take turns; medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

from broadbase.commands.app import COMMANDS
from machine import description

BAR = 0.4  # seconds
PROGRAM = [sys.executable, "-m", "broadbase"]
COMPLETED = {
    "_BROADBASE_COMPLETE": "complete_bash",
    "COMP_WORDS": "broadbase pretrain mol",
    "COMP_CWORD": "2",
}


def cpu(command: Sequence[str], **environment: str) -> float:
    """Seconds of CPU that a process took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    subprocess.run(command, env=settings, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """A line a command: its CPU seconds, and the share of what `import torch` takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    words = [["--help"], ["--version"], ["recipes"], *([name, "--help"] for name in COMMANDS)]
    commands = {f"broadbase {' '.join(each)}": (*PROGRAM, *each) for each in words}
    torch = (sys.executable, "-c", "import torch")
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        times.setdefault("import torch", []).append(cpu(torch))
        for name, command in commands.items():
            times.setdefault(name, []).append(cpu(command))
        times.setdefault("completion", []).append(cpu(PROGRAM, **COMPLETED))
    print(description())
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in medians.items():
        print(f"{name:28} {seconds:.2f} s  {seconds / medians['import torch']:.2f}")
    worst = max(seconds for name, seconds in medians.items() if name != "import torch")
    print(f"the most {worst:.2f} s, goal {BAR}: {'met' if worst <= BAR else 'missed'}")


if __name__ == "__main__":
    main()
