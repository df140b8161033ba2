"""Programs that a model writes for problems with tests: the share that passes (Chen et al. 2021).

Expect about 0 of a model trained for minutes: to pass, every line of a function must be right.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from math import comb

from broadbase.core.errors import DataError
from broadbase.core.sources import Record, Reject
from broadbase.data.detect import named
from broadbase.data.sources.problems import Problem, ProblemsConfig
from broadbase.evaluate.registry import TaskMeasure
from broadbase.evaluate.sandbox import passes, require_wall
from broadbase.evidence.comparison import MODEL, Comparison, Metric, compare
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.source_code import CodeConfig
from broadbase.objectives.causal import CausalConfig

SAMPLES, MAX_NEW_TOKENS = 10, 192  # programs of a problem, and the length of each
TRIES = (1, 10)  # k of pass@k
TEMPERATURE, TOP_P = 0.4, 0.95
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # after a function's end (section 2.2)


def solved_problems(base: Base, task: str) -> Iterator[Comparison]:
    """Compare pass@k on the problems of a task with canonical solutions and an empty function."""
    problems = _problems(task)
    require_wall()
    bodies = {
        MODEL: [_generate(base, problem, seed) for seed, problem in enumerate(problems)],
        "canonical solutions": [[f"\n{problem.canonical_solution}"] for problem in problems],
        "empty function": [["\n    pass\n"] for _ in problems],
    }
    passed = {
        name: [
            [passes_tests(problem, body) for body in samples]
            for problem, samples in zip(problems, by_problem, strict=True)
        ]
        for name, by_problem in bodies.items()
    }
    for k in TRIES:
        scores = {
            name: [[pass_at(k, len(samples), sum(samples))] for samples in by_problem]
            for name, by_problem in passed.items()
        }
        yield from compare(task, Metric(f"pass@{k}", "higher"), scores)


def pass_at(k: int, samples: int, correct: int) -> float:
    """Return the probability that one of k programs is correct, without bias (eq. 1).

    With fewer than k samples it is the probability for all of them.
    """
    k = min(k, samples)
    return 1 - comb(samples - correct, k) / comb(samples, k)


def passes_tests(problem: Problem, body: str) -> bool:
    """Return whether a problem's tests pass with a function body.

    A body that is not Python is not run.
    """
    program = problem.program(body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return passes(program, problem.entry_point, problem.check)


def _generate(base: Base, problem: Problem, seed: int) -> list[str]:
    """Return the model's continuations of a problem's head, up to the function's end."""
    sampling = SamplingConfig(temperature=TEMPERATURE, top_p=TOP_P, seed=seed)
    texts: Sequence[str] = base.generate_batch(
        [problem.head] * SAMPLES, max_new_tokens=MAX_NEW_TOKENS, sampling=sampling
    )
    return [text[: min([text.find(s) for s in STOPS if s in text], default=None)] for text in texts]


def _problems(task: str) -> list[Problem]:
    """Return all problems of a task; DataError names the first record that is no problem."""
    problems = []
    for record in (named(task) or ProblemsConfig(path=task)).records():
        if isinstance(record, Reject):
            raise DataError(f"{record.origin}: {record.reason}")
        if not isinstance(record, Record) or not isinstance(record.raw, Problem):
            raise DataError(f"{task} holds no problems with tests; sample:humaneval does")
        problems.append(record.raw)
    return problems


MEASURE = TaskMeasure((CausalConfig,), solved_problems, modalities=(CodeConfig,))
