"""k nearest neighbours on a base's vectors, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Labels, Outputs, Target
from broadbase.adapt.task import Task
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored


class KnnConfig(MethodConfig):
    """Weighted votes of the 20 nearest labelled records, by the cosine of the last layer.

    Where labels are texts, the text of the nearest record.
    """

    name: Literal["knn"] = "knn"
    by_neighbours: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    weighs_classes: ClassVar[bool] = True

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Keep the vectors of the labelled records."""
        vectors = encoder.vectors(task.inputs(train), LAST)
        return Neighbours(encoder, task.target, vectors, task.labels[train])

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the kept vectors and labels."""
        return Neighbours(encoder, target, arrays["vectors"], target.decoded(arrays["labels"]))


@dataclass(frozen=True)
class Neighbours(Fitted):
    """Labelled vectors [M,F]."""

    encoder: Encoder
    target: Target
    vectors: NDArray[np.float32]
    labels: Labels
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        """Fit scikit-learn's model."""
        model = self.target.neighbours().fit(self.vectors, self.labels)
        object.__setattr__(self, "model", model)

    @property
    def base(self) -> Base:
        """The frozen base."""
        return self.encoder.base

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the log of each class's share of the votes, or the mean of the numbers."""
        return self.target.outputs(self.model, self.encoder.vectors(inputs, LAST))

    def arrays(self) -> Arrays:
        """Return the vectors and their labels."""
        return {"vectors": self.vectors, "labels": self.target.encoded(self.labels)}
