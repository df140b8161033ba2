"""Questions whose document is known to be the right one, and texts of domains.

    set        question                               document                     at most
    boolq      a question of BoolQ's development set  the passage that answers it  800
    abstracts  a question of PubMedQA                 its abstract                 500
    python     first paragraph of a docstring         its function, without it     800

    domain     texts (none is in the training data of `sample:passages`)
    court      documents of MultiLexSum
    medicine   abstracts of PubMedQA
    stories    plots of NarrativeQA

Equal documents are one. A question of several documents is left out. Which documents are taken is
drawn from the name of the set. MiniLM has seen functions with docstrings (CodeSearchNet).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from broadbase.core.keyed_random import seed_of
from broadbase.data.samples.builtin import StandardLibraryConfig
from broadbase.demo.text_tasks import lines

SEEN = ("python",)


class Questions(NamedTuple):
    """Questions, each with the number of its document; every second is for validation."""

    name: str
    documents: Sequence[str]
    questions: Sequence[str]
    right: Sequence[int]


def boolq() -> Iterator[tuple[str, str]]:
    for row in lines("BoolQ/dev.jsonl"):
        yield row["question"], row["passage"]


def abstracts() -> Iterator[tuple[str, str]]:
    for part in ("pqaa", "pqal"):
        for row in lines(f"PubMedQA/{part}/test.jsonl"):
            yield row["question"], re.sub(r"Context \(\d+\): ", "", row["passage"])


def python() -> Iterator[tuple[str, str]]:
    for path in StandardLibraryConfig().files():
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or not (doc := ast.get_docstring(node)):
                continue
            question = " ".join(doc.split("\n\n")[0].split())
            node.body = node.body[1:]
            if len(node.body) >= 2 and len(question.split()) >= 4:
                yield question, ast.unparse(node)


SETS: dict[str, tuple[Callable[[], Iterator[tuple[str, str]]], int]] = {
    "boolq": (boolq, 800),
    "abstracts": (abstracts, 500),
    "python": (python, 800),
}


def questions(name: str) -> Questions:
    """Return a set by name."""
    make, most = SETS[name]
    rows = [*dict.fromkeys(make())]
    every = [question for question, _ in rows]
    rows = [row for row in rows if every.count(row[0]) == 1]
    documents = sorted({document for _, document in rows})
    order = np.random.default_rng(seed_of(0, "retrieval", name)).permutation(len(documents))[:most]
    number = {documents[int(i)]: at for at, i in enumerate(order)}
    kept = [(question, number[document]) for question, document in rows if document in number]
    kept.sort(key=lambda row: seed_of(0, "question", row[0]))
    return Questions(name, [*number], *map(list, zip(*kept, strict=True)))


def court() -> Iterator[str]:
    yield from (row["document"] for row in lines("MultiLexSum/test.jsonl"))


def stories() -> Iterator[str]:
    yield from (row["passage"] for row in lines("NarrativeQA/test.jsonl"))


DOMAINS: dict[str, Callable[[], Iterator[str]]] = {
    "court": court,
    "medicine": lambda: (document for _, document in abstracts()),
    "stories": stories,
}


def domain(name: str) -> list[str]:
    """Return the texts of a domain of at least 500 characters, once each, in random order."""
    texts = sorted({text for text in DOMAINS[name]() if len(text) >= 500})
    order = np.random.default_rng(seed_of(0, "domain", name)).permutation(len(texts))
    return [texts[int(i)] for i in order]


def story_questions(most: int) -> list[tuple[str, str, str]]:
    """Return a plot, a question on it and an answer, one of each of so many plots."""
    rows = {row["passage"]: row for row in lines("NarrativeQA/test.jsonl")}
    chosen = [text for text in domain("stories") if text in rows][:most]
    return [(text, rows[text]["question"], rows[text]["answer"][0].strip()) for text in chosen]
