"""Every bench, side by side with its peers: writes docs/benchmarks.md.

python bench/all.py [PART ...] [--quick] [--folder runs/bench]

Without names all parts, in order. What is done stays done, as a file in the folder: after a stop it
goes on. `--quick` takes fewer rounds and smaller data, in a folder of its own. Each part is a
command; its rows are those that it gave `machine.tell`, or else what it printed. The page has all
that was ever measured in the folder, what is missed too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import BENCH, Row, description

PAGE = BENCH.parent / "docs" / "benchmarks.md"
INTRODUCTION = """`make bench` (`python bench/all.py`) writes this page. Every bench does the
same work with Broadbase and with its peers on one machine, in turns (A B A B). A ratio is
Broadbase's value divided by the peer's: the median over rounds, with the smallest and the largest.
The benches install each peer in an environment of its own. Rows that miss their goal stay. If a
part was stopped and continued, its seconds are those since the continuation."""


@dataclass(frozen=True)
class Part:
    """What a bench is called with, and with what where there is little time."""

    command: str
    quick: str | None = None  # None: left out


PARTS = {
    "step": Part(
        "step.py --rounds 3 --sides ours Trainer 'Trainer compiled' litgpt",
        "step.py 3M --rounds 2 --steps 5",
    ),
    "anatomy": Part("anatomy.py", "anatomy.py 3M"),
    "objectives": Part("objectives.py", "objectives.py --rounds 2"),
    "target": Part("target.py --threads 1"),
    "int8": Part("int8.py", "int8.py --steps 50 --seeds 2"),
    "families": Part("families.py", "families.py llama bert --rounds 3"),
    "generation": Part("generation.py", "generation.py --rounds 2"),
    "serve_speed": Part("serve_speed.py", "serve_speed.py --rounds 1 --requests 24"),
    "eight_bit": Part("eight_bit.py", "eight_bit.py --steps 100"),
    "embeddings": Part("embeddings.py", "embeddings.py --sentences 300 --rounds 2"),
    "loader": Part("loader.py --megabytes 10 10000", "loader.py --rounds 2 --megabytes 10 200"),
    "growth": Part("growth.py", "growth.py --rounds 1 --steps 20"),
    "prepare": Part("prepare.py"),
    "memory": Part("memory.py"),
    "start": Part("start.py"),
    "commands": Part("commands.py"),
}


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    folder = options.folder or Path("runs/bench-quick" if options.quick else "runs/bench")
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.parts or PARTS:
        words = PARTS[name].quick if options.quick else PARTS[name].command
        if words is not None and not (folder / f"{name}.json").exists():
            failed += [] if finished(words, folder / f"{name}.json") else [words]
        PAGE.write_text("\n".join(page(folder)) + "\n")
    print(f"{PAGE} is written", file=sys.stderr)
    if failed:
        sys.exit("failed, and tried again the next time:\n" + "\n".join(failed))


def finished(words: str, file: Path) -> bool:
    """Run a bench; what it told into `file`, whole or not at all. Whether it came to its end."""
    print(f"python bench/{words}", file=sys.stderr)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name) / "rows.json"
        done = subprocess.run(
            [sys.executable, BENCH / words.split()[0], *shlex.split(words)[1:]],
            env={**os.environ, "BENCH_ROWS": str(rows)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        output = json.loads(rows.read_text()) if rows.exists() else None
    sys.stderr.write(done.stdout)
    if done.returncode:
        return False
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "command": f"python bench/{words}",
        "machine": description(),
        "seconds": time.monotonic() - began,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rows": output,
        "said": done.stdout.splitlines(),
    }
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1))
    draft.replace(file)
    return True


def page(folder: Path) -> Iterator[str]:
    """All lines of docs/benchmarks.md."""
    files = {name: folder / f"{name}.json" for name in PARTS}
    parts = {n: json.loads(file.read_text()) for n, file in files.items() if file.exists()}
    yield from ["# Benchmarks", "", INTRODUCTION]
    rows = [Row(**row) for part in parts.values() for row in part["rows"] or ()]
    if rows:
        yield from ["", f"{sum(row.met for row in rows)} of {len(rows)} goals are met.", ""]
        yield "| work | Broadbase | peer | its value | ratio (smallest, largest) | goal | |"
        yield "|---|---|---|---|---|---|---|"
        yield from map(line, rows)
    for name, part in parts.items():
        yield from ["", f"## {name}", "", *section(part)]


def line(row: Row) -> str:
    """A row of the table."""
    ours, peers = (f"{statistics.median(n):,.4g}" for n in (row.ours, row.peers))
    ratio = f"{statistics.median(row.ratios):.2f} ({min(row.ratios):.2f}, {max(row.ratios):.2f})"
    goal = f"{'at least' if row.higher else 'at most'} {row.goal}"
    word = "met" if row.met else "**missed**"
    return f"| {row.work} | {ours} {row.unit} | {row.peer} | {peers} | {ratio} | {goal} | {word} |"


def section(part: dict[str, Any]) -> Iterator[str]:
    """What a part said, as it said it."""
    yield f"`{part['command']}`: {part['seconds']:.0f} s, {part['cpu']:.0f} s of CPU."
    yield f"Machine: {part['machine']}."
    yield from ["", "```", *part["said"], "```"]


if __name__ == "__main__":
    main()
