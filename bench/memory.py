"""Memory of `prepare` by the number of documents: bytes each costs beyond a first 100 MB.

python bench/memory.py [--documents 100000 400000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from machine import description, measured

WORDS, SIZE = 20_000, 160  # different words; words of a document, about 1 kB


def corpus(file: Path, documents: int) -> None:
    """Lines of JSON, random words, none near another."""
    rng = np.random.default_rng(documents)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    seen = ["".join(rng.choice(letters, size=rng.integers(3, 9))) for _ in range(WORDS)]
    with file.open("w") as lines:
        for _ in range(documents):
            chosen = rng.zipf(1.3, size=SIZE) % WORDS
            lines.write(json.dumps({"text": " ".join(seen[i] for i in chosen)}) + "\n")


def main() -> None:
    """The peak of each size, and their difference a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, nargs=2, default=[100_000, 400_000])
    options = parser.parse_args()
    print(description())
    peaks = []
    for count in options.documents:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "texts.jsonl"
            corpus(file, count)
            size = file.stat().st_size / 1e6
            command = [sys.executable, "-m", "broadbase", "prepare", "text"]
            store = Path(name) / "store"
            result = measured([*command, "--data", file, "--store", store], once=True)
        peaks.append(result.megabytes)
        print(
            f"{count:,} documents, {size:.0f} MB: {result.megabytes:.0f} MB, {result.seconds:.0f} s"
        )
    more = (peaks[1] - peaks[0]) * 1e6 / (options.documents[1] - options.documents[0])
    print(f"{more:.0f} bytes a document more")


if __name__ == "__main__":
    main()
