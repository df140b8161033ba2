"""What published weights are worth for going on: all-MiniLM-L6-v2 beside its random init.

    python bench/continued.py [FOLDER] [--data sample:brown] [--steps 100] [--rows 10] [--out DIR]

Both are pretrained by recipe `bert` with the same config, tokenizer, rows and steps; FOLDER came
without a head, so both begin with the same new one. Prints both held-out losses, and what `evaluate
--baseline` prints of the two, with its 95 % interval. Without FOLDER it is `sample:minilm`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from broadbase.weights.folder import load, save

SEED = 0  # of the random init


def output(*words: object) -> Any:
    """What a command of ours prints as JSON."""
    command = [sys.executable, "-m", "broadbase", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Train both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default="sample:minilm")
    parser.add_argument("--data", default="sample:brown")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10, help="a step, of 256 places each")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp())
    published = given.folder
    save(load(published).reinitialised(SEED), out / "scratch")
    starts = {"published": published, "random init": out / "scratch"}
    runs = {name: out / name.replace(" ", "-") for name in starts}
    for name, start in starts.items():
        words = [
            "pretrain",
            "bert",
            "--data",
            given.data,
            "--init-from",
            start,
            "--out",
            runs[name],
        ]
        words += ["--store", out / "store"]
        settings = (
            f"train.steps={given.steps}",
            f"train.evaluate_every={given.steps}",
            f"data.sources.text.batch_size={given.rows}",
        )
        changes = [word for setting in settings for word in ("--set", setting)]
        for row in output(*words, *changes):
            print(f"{name}: {row['nats_per_token']:.3f} nats per masked token of {row['source']}")
    for row in output("evaluate", runs["published"], "--baseline", runs["random init"]):
        print(
            f"{row['metric']}, {row['items']} held-out items: {row['score']:.3f}, next to"
            f" {row['baseline']} {row['baseline_score']:.3f}: {row['gap']:+.3f} (95 %:"
            f" {row['ci_low']:+.3f} {row['ci_high']:+.3f})"
        )


if __name__ == "__main__":
    main()
