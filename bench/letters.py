"""Spoken letters of languages that a published base never heard: Whisper tiny.en's frozen encoder.

    python bench/letters.py [BASE] [--method probe] [--labels 200] [--splits 10]

The letters A to Z in 14 languages, one speaker each; no language is on both sides of a split.
Prints the accuracy on 150 letters next to random init of the same network, log-mel and MFCC. The
bar, set before the first measurement: above log-mel by at least 0.2 from 200 labels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from machine import description

BAR, TESTED = 0.2, 150


def main() -> None:
    """Adapt, and print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", nargs="?", default="sample:whisper_tiny_en")
    parser.add_argument("--method", default="probe")
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    words = ["adapt", given.base, "--data", "sample:letters", "--method", given.method]
    words += ["--train-size", given.labels, "--test-size", TESTED, "--splits", given.splits]
    command = [sys.executable, "-m", "broadbase", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (result,) = json.loads(done.stdout)
    print(description(), f"`broadbase {' '.join(map(str, words))}`", sep=", ")
    print("| baseline | model | baseline | lead, 95 % |\n|---|---|---|---|")
    rows: list[dict[str, Any]] = result["comparisons"]
    for row in rows:
        lead = f"{row['gap']:+.3f} ({row['ci_low']:+.3f} {row['ci_high']:+.3f})"
        print(f"| {row['baseline']} | {row['score']:.3f} | {row['baseline_score']:.3f} | {lead} |")
        if row["baseline"] == "log-mel":
            print(f"| the bar | | | {'met' if row['gap'] >= BAR else 'missed'} |")


if __name__ == "__main__":
    main()
