"""The frozen probe: a linear model on a base's vectors; the base itself does not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.adapt.encoder import LAYER, Encoder, Vectors
from broadbase.adapt.method import Arrays, Fitted, Linear, MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Labels, Target
from broadbase.adapt.task import Task
from broadbase.inference.embedding import Done, ignored


class ProbeConfig(MethodConfig):
    """Ridge regression on standardised vectors.

    Of several representations it takes the one with the least leave-one-out error; a single layer
    before the last only where its error is the least by more than a standard error, since among
    many candidates some look good by chance.
    """

    name: Literal["probe"] = "probe"
    weighs_classes: ClassVar[bool] = True

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Fit one model on each representation, and keep the best."""
        inputs, labels, models = task.inputs(train), task.labels[train], {}
        reading = encoder.after(inputs)
        for representation in reading.representations(inputs):
            model = make_pipeline(StandardScaler(), task.target.ridge())
            model.fit(reading.vectors(inputs, representation), labels)
            models[representation] = model
        best = _chosen(models, lambda name: reading.vectors(inputs, name), labels)
        scaler, ridge = models[best]
        return _linear(encoder, task.target, best, scaler, ridge)

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return the linear map."""
        return Linear.restored(encoder, arrays, facts)


def _chosen(
    models: Mapping[str, Pipeline], vectors: Callable[[str], Vectors], labels: Labels
) -> str:
    """Return the representation whose model has the least leave-one-out error, as described."""

    def best(single: bool) -> str | None:
        names = [name for name in models if name.startswith(LAYER) == single]
        return max(names, key=lambda name: float(models[name][-1].best_score_), default=None)

    def errors(name: str) -> NDArray[np.float64]:
        """Compute the squared leave-one-out errors of each record [M]."""
        scaler, ridge = models[name]
        again = clone(ridge).set_params(alphas=[ridge.alpha_], store_cv_results=True)
        again.fit(scaler.transform(vectors(name)), labels)
        squares: NDArray[np.float64] = again.cv_results_.reshape(len(labels), -1).mean(axis=1)
        return squares

    joint, layer = best(False), best(True)
    if joint is None or layer is None:
        return str(joint or layer)
    if models[layer][-1].best_score_ <= models[joint][-1].best_score_:
        return joint
    gains = errors(joint) - errors(layer)
    return layer if gains.mean() > gains.std() / np.sqrt(len(gains)) else joint


def _linear(
    encoder: Encoder, target: Target, representation: str, scaler: Any, ridge: Any
) -> Linear:
    """Return the linear map that a scaler and a ridge regression compute together."""
    linear = Linear.folded(encoder, target, representation, ridge)
    weight = linear.weight / scaler.scale_[:, None]
    return replace(linear, weight=weight, bias=linear.bias - scaler.mean_ @ weight)
