"""What tests of adaptation share: the methods, and a base whose vectors are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.adapted import Adapted, save_adapted
from broadbase.adapt.encoder import LAST, Encoder, Vectors
from broadbase.adapt.inputs import Inputs, content
from broadbase.adapt.learning import learn
from broadbase.adapt.method import Fitted, MethodConfig
from broadbase.adapt.methods.auto import AutoConfig
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.lora import LoRAMethodConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.weights.folder import save
from support.bases import mixed_base

METHODS = (
    ProbeConfig(),
    KnnConfig(),
    CentroidsConfig(),
    NamesConfig(),
    FinetuneConfig(steps=2, batch=4),
    LoRAMethodConfig(steps=2, batch=4),
    AutoConfig(candidates=("knn", "probe")),
)


class Given(Encoder):
    """Vectors of the records of a task that a test computed: representations "0", "1", ..."""

    def __init__(self, task: Task, *given: NDArray[np.float32]) -> None:
        self.rows = {content(raw): i for i, raw in enumerate(task.raws)}
        self.given = given
        self.base, self.modality = mixed_base(), task.modality

    def keep(self, inputs: Inputs, done: Done = ignored) -> None: ...

    def after(self, inputs: Inputs) -> Encoder:
        return self

    def representations(self, inputs: Inputs) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.given))))

    def vectors(self, inputs: Inputs, representation: str) -> Vectors:
        given = self.given[0 if representation == LAST else int(representation)]
        return given[[self.rows[content(raw)] for raw in inputs.raws]]


def score(fitted: Fitted, task: Task, test: Indices) -> float:
    return task.score(fitted.outputs(task.inputs(test)), test)


def probe(given: Sequence[NDArray[np.float32]], task: Task, train: Indices, test: Indices) -> float:
    return score(ProbeConfig().fit(Given(task, *given), task, train), task, test)


def saved(
    folder: Path, task: Task, base: Base, method: MethodConfig | None = None, **card: Any
) -> Adapted:
    """The task learned from all records and saved in `folder`, with its base in folder-base."""
    method = ProbeConfig() if method is None else method
    save(base, where := folder.with_name(f"{folder.name}-base"))
    encoder, train = Encoder(base, task.modality), np.arange(len(task.labels))
    fitted, calibration = learn(encoder, task, method, train)
    per_token = task.token_labels is not None
    adapted = Adapted(
        task.name, task.modality, task.target, method, fitted, calibration, per_token, card,
        paired=task.paired,
    )  # fmt: skip
    save_adapted(adapted, folder, where)
    return adapted


def names(method: MethodConfig) -> str:
    return method.name
