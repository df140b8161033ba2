"""What tests of adaptation share: the methods, and a base whose vectors are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.encoder import Encoder, Vectors
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task

METHODS = (ProbeConfig(), KnnConfig(), FinetuneConfig(steps=2, batch=4))


class Given(Encoder):
    """Vectors of the records of a task that a test computed: representations "0", "1", ..."""

    def __init__(self, task: Task, *given: NDArray[np.float32]) -> None:
        self.rows = {content(raw): i for i, raw in enumerate(task.raws)}
        self.given = given

    def representations(self, inputs: Inputs) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.given))))

    def vectors(self, inputs: Inputs, representation: str) -> Vectors:
        return self.given[int(representation)][[self.rows[content(raw)] for raw in inputs.raws]]


def score(fitted: Fitted, task: Task, test: Indices) -> float:
    return task.score(fitted.outputs(task.inputs(test)), test)


def probe(given: Sequence[NDArray[np.float32]], task: Task, train: Indices, test: Indices) -> float:
    return score(ProbeConfig().fit(Given(task, *given), task, train), task, test)


def names(method: MethodConfig) -> str:
    return method.name
