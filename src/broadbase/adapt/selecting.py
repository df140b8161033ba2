"""Choose one of several methods for a task by what cross-validation says of them.

Legend: M records, or tokens where tokens are labelled; K columns of outputs, B blocks of records.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.learning import folds
from broadbase.adapt.method import Fitted, MethodConfig, Part, Selection
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.task import Task
from broadbase.core.errors import BroadbaseError
from broadbase.inference.embedding import Done, ignored

BLOCKS = 50  # of records, each left out once for a standard error
ENDS = 1.96  # standard errors from a score to the ends of its 95 % interval
STEADY = 0.1  # a smaller standard error counts by its share of it (chosen in bench/auto_tasks.py)
ENOUGH = 2000  # held-out outputs that more repeats are not worth their time for


@dataclass(frozen=True)
class Trial:
    """A method that was tried on a task, or why it was not."""

    method: MethodConfig
    fitted: Fitted | None = None  # to all records
    held: Sequence[Outputs] = ()  # for the held-out records of the first parts
    scores: NDArray[np.float64] | None = None  # [1+B]: of these, and of these without a block
    seconds: float = 0.0
    refused: str = ""  # why it was not tried


@dataclass(frozen=True)
class Trials:
    """Methods that are tried on the same parts of the records `train`."""

    encoder: Encoder
    task: Task
    train: Indices
    seed: int
    parts: Sequence[Part]
    tried: list[Trial] = field(default_factory=list)
    refused: list[Trial] = field(default_factory=list)

    def add(self, method: MethodConfig, done: Done = ignored) -> None:
        """Fit a method to all records, and to those of each part; of one that is dear one part."""
        began, parts = time.perf_counter(), self.parts[:1] if method.trains_base else self.parts
        try:
            fitted, held = method.cross_fit(
                self.encoder, self.task, self.train, parts, self.seed, done
            )
        except BroadbaseError as error:
            self.refuse(method, str(error))
            return
        seconds = time.perf_counter() - began
        scores = self._scores(held)[0] if parts else None
        self.tried.append(Trial(method, fitted, held, scores, seconds))

    def refuse(self, method: MethodConfig, reason: str) -> None:
        """Keep the reason why a method is not tried."""
        self.refused.append(Trial(method, refused=reason))

    def selection(self) -> tuple[Selection, Fitted]:
        """Return the first method, in their order, that is not clearly worse than the best.

        It is not clearly worse where its score is within one standard error of the difference, and
        where that is below 0.1, within a part of it, in proportion to it: many records show small
        differences. Without cross-validation it is the first that learns from labels, if there are
        some.
        """
        if not self.parts:
            fitting = [t for t in self.tried if t.method.needs_labels] if len(self.train) else []
            chosen = (fitting or self.tried)[0]
            why = "labels are too few for cross-validation and it is the first that"
            reason = f"{why} {'learns from labels' if fitting else 'suits the task'}"
        else:
            chosen, reason = self._chosen()
        assert chosen.fitted is not None
        return Selection(chosen.method, self._rows(chosen), reason), chosen.fitted

    def _chosen(self) -> tuple[Trial, str]:
        """Return the first that is not clearly worse than the best, and why it is chosen."""
        best = max(self.tried, key=_score)
        metric = self.task.target.metric.name
        for trial in self.tried:
            if trial is best:
                break
            gap, error = self._gap(best, trial)
            margin = error * min(1.0, error / STEADY)
            if gap <= margin:
                return trial, (
                    f"it is cheaper than {best.method.name} and its {metric} is only {gap:.3f}"
                    f" lower, within the margin of {margin:.3f} of {len(self.train):,} labels"
                )
        first = best is self.tried[0]
        more = "" if first else ", above cheaper methods by more than the margin of so many labels"
        return best, f"its {metric} is the highest{more}"

    def _gap(self, best: Trial, trial: Trial) -> tuple[float, float]:
        """Return how much better the best is, on the parts that both have, and its error."""
        same = len(best.held) == len(trial.held)
        pair = (best.scores, trial.scores) if same else self._scores(best.held, trial.held)
        gaps: NDArray[np.float64] = np.subtract(*pair)
        return float(gaps[0]), deviation(gaps)

    def _rows(self, chosen: Trial) -> list[Mapping[str, Any]]:
        """Return a row of plain values for each method; those that were not tried are last."""
        rows: list[Mapping[str, Any]] = []
        for trial in self.tried:
            assert trial.fitted is not None
            row: dict[str, Any] = {"method": trial.method.name}
            if trial.scores is not None:
                score, half = _score(trial), ENDS * deviation(trial.scores)
                row |= {"score": score, "low": score - half, "high": score + half}
            row |= {
                "parameters": trial.fitted.parameters,
                "seconds": trial.seconds,
                "bytes": trial.fitted.size,
                "note": "chosen" if trial is chosen else "",
            }
            rows.append(row)
        for trial in self.refused:
            rows.append({"method": trial.method.name, "note": f"not tried: {trial.refused}"})
        return rows

    def _scores(self, *held: Sequence[Outputs]) -> NDArray[np.float64]:
        """Return the score of each of some outputs, and then those without each block, [., 1+B].

        All are of the parts that all of them have.
        """
        count = min(map(len, held))
        rest = np.concatenate([rest for _, rest in self.parts[:count]])
        labels, blocks = self.task.labels[rest], self._blocks[rest]
        kept = [slice(None), *(blocks != block for block in np.unique(blocks))]
        scores = [
            [self.task.target.score(labels[some], outputs[some]) for some in kept]
            for outputs in map(np.concatenate, (each[:count] for each in held))
        ]
        return np.array(scores)

    @cached_property
    def _blocks(self) -> Indices:
        """The block of each record of the task; the records of a group are in one."""
        size = len(self.task.labels)
        groups = np.arange(size) if self.task.groups is None else self.task.groups
        names, unit = np.unique(groups[self.train], return_inverse=True)
        order = np.random.default_rng(self.seed).permutation(len(names))
        blocks = np.zeros(size, dtype=np.int64)
        blocks[self.train] = order[unit] % BLOCKS
        return blocks


def _score(trial: Trial) -> float:
    """Return the score of a method's held-out outputs."""
    assert trial.scores is not None
    return float(trial.scores[0])


def parts_of(task: Task, train: Indices, seed: int, repeats: int) -> list[Part]:
    """Return the parts of repeated cross-validation; none where no class has two labels.

    There are fewer repeats where records are many.
    """
    if len(train) < 2 or (
        task.target.names and np.bincount(task.target.strata(task.labels[train])).max() < 2
    ):
        return []
    repeats = max(1, min(repeats, ENOUGH // len(train)))
    return [part for i in range(repeats) for part in folds(task, train, seed + i)]


def deviation(scores: NDArray[np.float64]) -> float:
    """Return the standard error of a score, [1+B]: the jackknife's over blocks of equal size.

    The first is the score, and the others are without a block each (Efron & Tibshirani 1993, 11.5).
    """
    without = scores[1:]
    return float(np.sqrt((len(without) - 1) * without.var()))
