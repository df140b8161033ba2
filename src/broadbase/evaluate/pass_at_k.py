"""Programs that a base writes for problems with tests, run: how many pass (Chen et al. 2021).

Near 0 is what a base of minutes gets: to pass, every line of a whole function must be right.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from math import comb

from broadbase.core.contracts import Record, Reject
from broadbase.core.errors import DataError
from broadbase.data.detect import named
from broadbase.data.sources.problems import Problem, ProblemsConfig
from broadbase.evaluate.registry import Measure, Measured, compared
from broadbase.evaluate.sandbox import passes, require_wall
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.source_code import CodeConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.run.run import Run

SAMPLES, PLACES = 10, 192  # drawn for a problem, and how long each may be
TRIES = (1, 10)  # k of pass@k
TEMPERATURE, TOP_P = 0.4, 0.95
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # where a function has ended (their 2.2)


def passed(_: Run, base: Base, data: str) -> Iterator[Measured]:
    """pass@k on the problems of `data`, beside their solutions and a body that does nothing."""
    problems = _problems(data)
    require_wall()
    bodies = {
        "base": [_drawn(base, problem, i) for i, problem in enumerate(problems)],
        "canonical solutions": [[f"\n{problem.canonical_solution}"] for problem in problems],
        "a body that does nothing": [["\n    pass\n"] for _ in problems],
    }
    right = {
        name: [[judged(p, body) for body in some] for p, some in zip(problems, every, strict=True)]
        for name, every in bodies.items()
    }
    for k in TRIES:
        found = {
            name: [[pass_at(k, len(some), sum(some))] for some in every]
            for name, every in right.items()
        }
        yield from compared(data, f"pass@{k}", found)


def pass_at(k: int, drawn: int, right: int) -> float:
    """The chance that of k programs one is right, without bias from `drawn` of them (their eq. 1).

    With fewer than k drawn it is the chance for all of them.
    """
    k = min(k, drawn)
    return 1 - comb(drawn - right, k) / comb(drawn, k)


def judged(problem: Problem, body: str) -> bool:
    """Whether the tests of a problem are passed with a body; what is no Python is not run."""
    program = problem.program(body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return passes(program, problem.entry_point, problem.check)


def _drawn(base: Base, problem: Problem, seed: int) -> list[str]:
    """What the base writes after the head, up to the function's end."""
    sampling = SamplingConfig(temperature=TEMPERATURE, top_p=TOP_P, seed=seed)
    texts: Sequence[str] = base.continuations(
        [problem.head] * SAMPLES, places=PLACES, sampling=sampling
    )
    return [text[: min([text.find(s) for s in STOPS if s in text], default=None)] for text in texts]


def _problems(data: str) -> list[Problem]:
    """All problems; DataError names the first that is none."""
    found = []
    for record in (named(data) or ProblemsConfig(path=data)).records():
        if isinstance(record, Reject):
            raise DataError(f"{record.place}: {record.reason}")
        if not isinstance(record, Record) or not isinstance(record.raw, Problem):
            raise DataError(f"{data} holds no problems with tests; sample:humaneval does")
        found.append(record.raw)
    return found


MEASURE = Measure((CausalConfig,), passed, modalities=(CodeConfig,), on_task=True)
