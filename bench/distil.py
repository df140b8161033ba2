"""What a teacher is worth (Gemini to Gemma): a student of its probabilities beside one of the data.

python bench/distil.py [--folder runs/distil]

Text of the Brown corpus, a vocabulary of 2,048. The teacher has depth 4 and 250 steps; students
have depth 2 and 200 steps, the same rows in the same order and the same initial weights: one learns
the data (objective `causal`), the other half the data and half the teacher's probabilities at
temperature 2 (objective `distil` at its defaults). Three seeds. Bits per byte of held-out documents
under the last weights; the interval is that of the paired difference over documents and seeds, the
wider of that over all pairs and that over the three seeds. Finished runs are not made again.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broadbase.data.batches import held_out
from broadbase.evaluate.likelihood import model_nats
from broadbase.evidence.interval import paired_interval
from broadbase.run.run import Run
from broadbase.weights.folder import load
from machine import description

SEEDS = (0, 1, 2)
TEACHER = ("--depth", "4", "--steps", "250", "--set", "seed=9")
STUDENT = ("--depth", "2", "--steps", "200")
SHARED = (
    *("--data", "sample:brown", "--set", "model.modalities.text.vocab_size=2048"),
    *("--set", "data.holdout=0.1", "--set", "data.final_rows=8", "--set", "data.validation_rows=8"),
    *("--set", "train.evaluate_every=1000", "--set", "train.save_every=1000"),
)


def trained(folder: Path, name: str, *words: str) -> Path:
    """Return a run of recipe `text`, trained if it is not there."""
    out = folder / name
    if not (out / "model").exists():
        command = [sys.executable, "-m", "broadbase", "pretrain", "text", *SHARED, *words]
        command += ["--store", str(folder / "store"), "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def bits(path: Path) -> NDArray[np.float64]:
    """Return the bits of each held-out document under a run, scaled so that their mean is bits per
    byte."""
    run, base = Run.open(path), load(path)
    rows = run.rows("validation")["text"]
    segments = held_out(rows, "text", run.config.data.sources["text"].batch_size)
    nats = np.concatenate([model_nats(base, "text", segment) for segment in segments])
    by_document = np.bincount(rows.chunks[rows.packed, 0], nats)
    return by_document * len(by_document) / (math.log(2) * rows.split.units)


def main() -> None:
    """Train what is missing, then print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/distil"))
    folder = parser.parse_args().folder
    start = time.process_time()
    teacher = trained(folder, "teacher", *TEACHER)
    taught = (
        "--set",
        "objective.name=distil",
        "--set",
        f"teacher={{name: frozen, path: {teacher}}}",
    )
    scores: dict[str, list[NDArray[np.float64]]] = {"hard labels": [], "teacher": []}
    for seed in SEEDS:
        words = (*STUDENT, "--set", f"seed={seed}")
        for name, more in (("hard labels", ()), ("teacher", taught)):
            run = trained(folder, f"{name.replace(' ', '-')}-{seed}", *words, *more)
            scores[name].append(bits(run))
            print(f"{name}, seed {seed}: {scores[name][-1].mean():.4f}", flush=True)
    distilled, hard = (np.concatenate(scores[name]) for name in ("teacher", "hard labels"))
    gap = paired_interval(distilled.tolist(), hard.tolist(), groups=len(SEEDS))
    print(f"machine: {description()}; {time.process_time() - start:.0f} s of CPU here")
    print(f"teacher itself: {bits(teacher).mean():.4f} bits per byte")
    print(
        f"student of the teacher {distilled.mean():.4f}, of hard labels {hard.mean():.4f} bits per"
        f" byte, {len(hard) // len(SEEDS)} documents, {len(SEEDS)} seeds: difference"
        f" {gap.mean:+.4f} (95 % {gap.low:+.4f} to {gap.high:+.4f})"
    )


if __name__ == "__main__":
    main()
