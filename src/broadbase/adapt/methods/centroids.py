"""Class centroids on a base's vectors, refined with unlabelled records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.adapt.centroids import ROUNDS, SHARPNESS, WEIGHT, class_centroids
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Fitted, Linear, MethodConfig, Part
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs
from broadbase.adapt.targets.classes import NEVER
from broadbase.adapt.task import Task
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored


class CentroidsConfig(MethodConfig):
    """The cosine between a record and the centroid of each class, of the last layer's means.

    Records without a label, if the task has some, are assigned to the centroids and move them: a
    help where labels are few.
    """

    name: Literal["centroids"] = "centroids"
    uses_unlabelled: ClassVar[bool] = True
    rounds: Annotated[int, Field(ge=0)] = ROUNDS
    """How often the unlabelled records are assigned; with 0 they are not used."""
    weight: Annotated[float, Field(ge=0)] = WEIGHT
    """How much an unlabelled record counts, where a labelled one counts 1."""

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse numbers, and several labels of a record."""
        if not task.target.names:
            return "numbers have no centroids; learn them with --method probe"
        if task.labels.ndim > 1:
            return "records with several labels have no centroids; learn them with --method probe"
        return ""

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Compute the centroids of the labelled records, and refine them."""
        return self.cross_fit(encoder, task, train, (), seed, done)[0]

    def cross_fit(
        self,
        encoder: Encoder,
        task: Task,
        train: Indices,
        parts: Sequence[Part],
        seed: int = 0,
        done: Done = ignored,
    ) -> tuple[Fitted, list[Outputs]]:
        """Fit to all and to the parts, and read the unlabelled records once."""
        pool = None
        if self.rounds and len(task.unlabelled):
            inputs = Inputs(task.unlabelled, per_token=task.token_labels is not None)
            encoder.keep(inputs)
            pool = encoder.vectors(inputs, LAST).astype(np.float64)
        held = [self._fitted(encoder, task, fit, pool).outputs(task.inputs(x)) for fit, x in parts]
        return self._fitted(encoder, task, train, pool), held

    def _fitted(
        self, encoder: Encoder, task: Task, train: Indices, pool: NDArray[np.float64] | None
    ) -> Linear:
        """Return the map of some labelled records and the pool [U,F], if there is one."""
        vectors = encoder.vectors(task.inputs(train), LAST).astype(np.float64)
        labels, classes = task.labels[train], task.target.columns
        pool = vectors[:0] if pool is None else pool
        missing = np.bincount(labels, minlength=classes) == 0
        centroids, centre = class_centroids(
            vectors, labels, pool, classes, self.rounds, self.weight
        )
        weight = SHARPNESS * centroids.T
        bias = np.where(missing, NEVER, -centre @ weight)
        return Linear(encoder, LAST, weight, bias, normalise=True)
