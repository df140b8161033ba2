"""Programming problems that tests judge, in the fields of HumanEval (Chen et al. 2021)."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.texts import LinesConfig, as_text

FIELDS = ("prompt", "entry_point", "test", "canonical_solution")


class Problem(NamedTuple):
    """A function's head, to be continued, and what judges it."""

    prompt: str  # imports, signature and docstring
    entry_point: str  # the function's name
    test: str  # defines check(candidate), which raises where the candidate is wrong
    canonical_solution: str  # the rest of the function after the prompt, by a human

    @property
    def head(self) -> str:
        """Return the prompt up to its last line break.

        Which belongs to the indentation after it.
        """
        return self.prompt.rstrip()

    def program(self, body: str) -> str:
        """Return the head with a body: what is judged."""
        return f"{self.head}{body}\n"

    @property
    def check(self) -> str:
        """Return the tests after the prompt and its solution, whose helpers they may use."""
        return f"{self.prompt}{self.canonical_solution}\n{self.test}\n"


class ProblemsConfig(LinesConfig):
    """A problem a line of JSON."""

    name: Literal["problems"] = "problems"
    pattern: str = "**/*.jsonl **/*.jsonl.gz **/*.jsonl.zst"

    def _line(self, origin: str, line: bytes) -> Record | Reject:
        text = as_text(origin, line)
        if isinstance(text, Reject):
            return text
        try:
            row = json.loads(text.raw)
            problem = Problem(*(row[name] for name in FIELDS))
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            return Reject(origin, f"no problem, with the fields {', '.join(FIELDS)}: {error}")
        if not all(isinstance(part, str) for part in problem):
            return Reject(origin, f"{', '.join(FIELDS)} must be texts")
        return Record(problem, origin)
