"""Four text tasks that settings are chosen on; nothing is measured on them.

    task        records                                            classes  at most
    toxicity    sentences: which kind of toxicity scores highest   4        150
    docstring   first lines of docstrings of the standard library  8        100
    passage     the first 12 words of passages of ten collections  10       100
    subjects    questions of MedMCQA in subjects that `subject` of the demo has not  8  100

Equal records are left out. No record is in a task of demo/text_tasks.py.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from broadbase.adapt.task import Task
from broadbase.demo.tasks import SUBJECTS
from broadbase.demo.text_tasks import limited, lines

KINDS = ("sexually_explicit", "identity_attack", "threat", "insult")
PACKAGES = ("asyncio", "email", "http", "logging", "tkinter", "unittest", "multiprocessing", "xml")
PASSAGES = {  # the field of the passage
    "Consumer-Contracts": "contract",
    "HellaSwag": "question",
    "SIQA": "passage",
    "ASDiv": "passage",
    "LogiQA": "passage",
    "Wino-test": "text",
    "Translation": "sourceString",
    "Privacy-Policy": "context",
    "PubMedQA/pqal": "passage",
    "BBQ": "passage",
}
WORDS = 12
OTHERS = (  # subjects
    "Anaesthesia", "ENT", "Forensic_Medicine", "Medicine", "Microbiology", "Ophthalmology",
    "Pathology", "Pediatrics",
)  # fmt: skip


def tasks() -> Iterator[Task]:
    """The four tasks, one after the other."""
    yield from (toxicity(), docstring(), passage(), subjects())


def toxicity() -> Task:
    """Return the task: in which kind of toxicity a sentence scores highest."""
    rows: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in lines("Toxicity/test.jsonl"):
        rows[max(KINDS, key=lambda kind: float(row[kind]))].add(row["text"])
    return limited("toxicity", {k: v for k, v in rows.items() if len(v) >= 40}, 150)


def docstring() -> Task:
    """Return the task: which package of the standard library a docstring is of."""
    root = Path(sysconfig.get_path("stdlib"))
    rows = {name: set(_docstrings(root / name)) for name in PACKAGES}
    return limited("docstring", rows, 100)


def passage() -> Task:
    """Return the task: which collection a passage is of."""
    rows = {
        name: {" ".join(row[field].split()[:WORDS]) for row in lines(f"{name}/test.jsonl")}
        for name, field in PASSAGES.items()
    }
    return limited("passage", rows, 100)


def subjects() -> Task:
    """Return the task: which subject a question of a medical examination is about."""
    assert not {*OTHERS} & {*SUBJECTS}
    rows = {
        name: {row["question"] for row in lines(f"MedMCQA/MedMCQA-Test/{name}.jsonl")}
        for name in OTHERS
    }
    return limited("subjects", rows, 100)


def _docstrings(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*.py")):
        if {"test", "tests"} & {*file.parts}:
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            first = (text or "").split("\n")[0].strip()
            if len(first) > 20:
                yield first
