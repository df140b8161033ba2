"""Eight text tasks that the rules of `auto` were chosen on; none of them is measured.

task       records                                             classes  at most
toxicity   sentences by the kind of toxicity that is highest   5        100
severe     toxic sentences, severe or mild                     2        150
docstring  docstrings of functions by installed package        6        100
topic      docstrings of SciPy's functions by subpackage       8        100
problem    questions, problems and requests by collection      7        100
emoji      descriptions of emoji by group                      9        80
genre      40 words of texts of the Brown corpus by genre      10       48
spam       30 words of an e-mail, spam or ham                  2        150
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator

from broadbase.adapt.task import Task
from broadbase.core.sources import Record
from broadbase.data.samples.sets import SAMPLES
from broadbase.demo.text_tasks import limited, lines

KINDS = ("profanity", "sexually_explicit", "identity_attack", "threat", "insult")
PACKAGES = ("numpy", "sklearn", "torch", "PIL", "pydantic", "rich")
TOPICS = ("stats", "signal", "optimize", "linalg", "ndimage", "sparse", "special", "interpolate")
PRINTING = ("report",)  # modules that print when they are imported
PROBLEMS = {  # the collection and its field
    "arithmetic": ("ASDiv/test.jsonl", "question"),
    "social situation": ("SIQA/test.jsonl", "passage"),
    "logic puzzle": ("LogiQA/test.jsonl", "passage"),
    "everyday activity": ("HellaSwag/test.jsonl", "question"),
    "examination question": ("MMLU/test.jsonl", "question"),
    "harmful request": ("BSS/test.jsonl", "text"),
    "encyclopaedia": ("wikiDataset/test.jsonl", "text"),
}


def tuning_tasks() -> Iterator[Task]:
    """The eight tasks, one after the other."""
    yield from (toxicity(), severe(), docstring(), topic(), problem(), emoji(), genre(), spam())


def toxicity() -> Task:
    """Return the task: the kind of toxicity that a toxic sentence has most of."""
    rows: dict[str, set[str]] = {}
    for row in lines("Toxicity/test.jsonl"):
        highest = max(KINDS, key=lambda kind: row[kind])
        if row[highest] > 0.5:
            rows.setdefault(highest, set()).add(row["text"])
    return limited("toxicity", {k: v for k, v in rows.items() if len(v) >= 40}, 100)


def severe() -> Task:
    """Return the task: whether a sentence is very toxic."""
    rows: dict[str, set[str]] = {"severe": set(), "mild": set()}
    for row in lines("Toxicity/test.jsonl"):
        if not 0.4 < row["severe_toxicity"] < 0.6:
            rows["severe" if row["severe_toxicity"] > 0.5 else "mild"].add(row["text"])
    return limited("severe", rows, 150)


def docstring() -> Task:
    """Return the task: which package a docstring is from."""
    return limited("docstring", {name: _docstrings(name) for name in PACKAGES}, 100)


def topic() -> Task:
    """Return the task: which subpackage of SciPy a docstring is from."""
    return limited("topic", {name: _docstrings(f"scipy.{name}") for name in TOPICS}, 100)


def problem() -> Task:
    """Return the task: which collection a text is from, by what it holds."""
    rows = {
        name: {_words(row[field], 30) for row in lines(member)}
        for name, (member, field) in PROBLEMS.items()
    }
    return limited("problem", rows, 100)


def emoji() -> Task:
    """Return the task: the group of an emoji's description."""
    source = SAMPLES["openmoji"].options["text"]
    rows: dict[str, set[str]] = {}
    for record in source.records():
        if isinstance(record, Record):
            rows.setdefault(str(record.label), set()).add(record.raw)
    return limited("emoji", {k: v for k, v in rows.items() if len(v) >= 60}, 80)


def genre() -> Task:
    """Return the task: the genre of a text of the Brown corpus."""
    rows: dict[str, set[str]] = {}
    for record in SAMPLES["brown"].source.records():
        if isinstance(record, Record):
            rows.setdefault(str(record.label), set()).add(_words(record.raw, 40))
    return limited("genre", {k: v for k, v in rows.items() if len(v) >= 24}, 48)


def spam() -> Task:
    """Return the task: whether an e-mail is spam."""
    rows: dict[str, set[str]] = {}
    for record in SAMPLES["spam"].source.records():
        if isinstance(record, Record):
            rows.setdefault(str(record.label), set()).add(_words(record.raw, 30))
    return limited("spam", rows, 150)


def _docstrings(package: str) -> set[str]:
    """The first paragraphs of the docstrings of a package's public functions and classes."""
    texts = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = importlib.import_module(package)
        names = [module.name for module in pkgutil.iter_modules(root.__path__)]
        public = [name for name in names if name[0] != "_" and name not in PRINTING]
        for name in [package, *(f"{package}.{name}" for name in public)]:
            try:
                module = importlib.import_module(name)
            except Exception:  # an optional dependency is missing
                continue
            for key, member in sorted(vars(module).items()):
                if key.startswith("_") or not callable(member):
                    continue
                parts = (inspect.getdoc(member) or "").split("\n\n")
                texts.add(_words(" ".join(parts[:2]), 40))
    return {text for text in texts if len(text.split()) >= 6}


def _words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])
