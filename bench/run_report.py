"""The command line of the benches that measure task by task, and report what was measured.

    python bench/NAME.py run [BASE] --out FILE [--tasks NAME ...]
    python bench/NAME.py report FILE

`run` appends a line of JSON for each row.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from broadbase.inference.base import Base
from broadbase.weights.folder import load

Rows = Callable[[Base, Callable[[str], bool]], Iterable[Mapping[str, Any]]]


def main(about: str | None, rows: Rows, report: Callable[[Path], None]) -> None:
    """Append the rows of a base to a file, or report such a file.

    `rows` yields them, given the base and what says whether a task of that name is to be run.
    """
    parser = argparse.ArgumentParser(description=about)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("base", nargs="?", default="sample:minilm")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--tasks", nargs="*")
    commands.add_parser("report").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        report(options.file)
        return
    wanted = options.tasks
    for row in rows(load(options.base), lambda name: not wanted or name in wanted):
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row["task"], row.get("labels", ""), "done", flush=True)
