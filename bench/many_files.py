"""Prepare 100,000 small files, and one line of 500 MB: time and memory, of our command alone.

    python bench/many_files.py [--files 100000] [--megabytes 500]

Prints the seconds, and the peak memory over all processes, beside the size of the line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from machine import Measured, description, measured

PROCESSES = 2
FOLDER = 1000  # files in a folder
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def small_files(folder: Path, count: int) -> None:
    """Texts of about 100 bytes, no two alike."""
    for i in range(count):
        if i % FOLDER == 0:
            (folder / f"{i // FOLDER:04}").mkdir(parents=True)
        words = " ".join(WORDS[i // 10**k % 10] + str(i * 7919 % 10007) for k in range(6))
        (folder / f"{i // FOLDER:04}" / f"{i}.txt").write_text(f"file {i}: {words}\n")


def long_line(path: Path, megabytes: int) -> None:
    """One JSON object of so many megabytes, and 20 short ones."""
    path.parent.mkdir()
    with path.open("w") as file:
        file.write('{"text": "')
        words = [WORDS[i * i % 10] + str(i * 7919 % 1009) for i in range(100_000)]
        block = " ".join(words) + " "
        for _ in range(megabytes * 1_000_000 // len(block)):
            file.write(block)
        file.write('"}\n')
        for i in range(20):
            file.write(json.dumps({"text": f"a short line, number {i}"}) + "\n")


def prepared(recipe: str, data: Path, store: Path, *settings: str) -> Measured:
    """Our command on data, in so many processes."""
    command = [sys.executable, "-m", "broadbase", "prepare", recipe, "--data", data]
    changes = [part for each in settings for part in ("--set", each)]
    return measured(
        [*command, "--store", store, "--processes", str(PROCESSES), *changes], once=True
    )


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    print(description())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_files(folder / "files", options.files)
        result = prepared("text", folder / "files", folder / "a")
        print(f"{options.files:,} files: {result.seconds:.0f} s, {result.megabytes:.0f} MB at most")
        line = folder / "line" / "a.jsonl"
        long_line(line, options.megabytes)
        size = line.stat().st_size / 1e6
        for recipe in ("text", "bytes"):
            limit = f"data.sources.{recipe}.source.limit={options.megabytes + 100}"
            result = prepared(recipe, line, folder / recipe, limit)
            print(
                f"a line of {size:.0f} MB, {recipe}: {result.seconds:.0f} s, {result.megabytes:.0f}"
                f" MB at most, {result.megabytes / size:.1f} times its size"
            )


if __name__ == "__main__":
    main()
