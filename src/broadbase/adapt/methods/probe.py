"""The frozen probe: a linear model on a base's vectors; the base itself does not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import Arrays, Fitted, Linear, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.inference.embedding import Done, ignored


class ProbeConfig(MethodConfig):
    """Ridge regression on standardised vectors.

    Of several representations it takes the one with the least leave-one-out error.
    """

    name: Literal["probe"] = "probe"

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Fit one model on each representation, and keep the best."""
        inputs, labels, models = task.inputs(train), task.labels[train], {}
        for representation in encoder.representations(inputs):
            model = make_pipeline(StandardScaler(), task.target.ridge())
            model.fit(encoder.vectors(inputs, representation), labels)
            models[representation] = model
        best = max(models, key=lambda name: models[name][-1].best_score_)
        scaler, ridge = models[best]
        return _linear(encoder, task.target, best, scaler, ridge)

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the linear map."""
        return Linear.restored(encoder, arrays, facts)


def _linear(
    encoder: Encoder, target: Target, representation: str, scaler: Any, ridge: Any
) -> Linear:
    """Fold a scaler and a ridge into one linear map with a column for each output."""
    size = scaler.mean_.shape[0]
    corner = target.outputs(ridge, np.zeros((1, size)))[0]
    slopes = target.outputs(ridge, np.eye(size)) - corner
    weight = slopes / scaler.scale_[:, None]
    return Linear(encoder, representation, weight, corner - scaler.mean_ @ weight)
