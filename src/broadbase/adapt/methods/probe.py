"""The frozen probe: a linear model on a base's vectors; the base itself does not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.adapt.encoder import LAYER, Encoder
from broadbase.adapt.method import Fitted, Linear, MethodConfig, Part
from broadbase.adapt.ridge import LeftOut
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs, Target
from broadbase.adapt.task import Task
from broadbase.inference.embedding import Done, ignored

MOST = 2048  # labels whose held-out outputs are computed without another fit


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
        inputs, labels = task.inputs(train), task.labels[train]
        reading = encoder.after(inputs)
        models = _models(reading, task, train)

        def errors(name: str) -> NDArray[np.float64]:
            scaler, ridge = models[name]
            again = clone(ridge).set_params(alphas=[ridge.alpha_], store_cv_results=True)
            again.fit(scaler.transform(reading.vectors(inputs, name)), labels)
            return _losses(again, 1)[:, 0]

        best = _chosen({name: model[-1].best_score_ for name, model in models.items()}, errors)
        return _linear(encoder, task.target, best, *models[best])

    def cross_fit(
        self,
        encoder: Encoder,
        task: Task,
        train: Indices,
        parts: Sequence[Part],
        seed: int = 0,
        done: Done = ignored,
    ) -> tuple[Fitted, list[Outputs]]:
        """Fit as `fit` does, and compute outputs for held-out records from what was fitted.

        For each part the representation and the penalty are those with the least leave-one-out
        error on its first records, of models of all `train`; the linear map is without its second.
        """
        if len(train) > MOST:
            return super().cross_fit(encoder, task, train, parts, seed, done)
        inputs, labels = task.inputs(train), task.labels[train]
        reading = encoder.after(inputs)
        models = _models(reading, task, train, store_cv_results=True)
        penalties = next(iter(models.values()))[-1].alphas
        losses = {name: _losses(model[-1], len(penalties)) for name, model in models.items()}
        decomposed: dict[str, LeftOut] = {}
        weights = task.target.weights(labels)

        def left_out(fit: Indices, rest: Indices) -> Outputs:
            name, i = _least(losses, fit)
            if name not in decomposed:
                rows = models[name][0].transform(reading.vectors(inputs, name).astype(np.float64))
                decomposed[name] = LeftOut(rows, task.target.regressands(labels), weights)
            return decomposed[name].outputs(penalties[i], rest)

        best, _ = _least(losses, np.arange(len(train)))
        fitted = _linear(encoder, task.target, best, *models[best])
        return fitted, [left_out(*(_at(train, each) for each in part)) for part in parts]


def _models(
    reading: Encoder, task: Task, train: Indices, **settings: Any
) -> Mapping[str, Pipeline]:
    """Return a standardisation and a ridge regression, fitted, by representation."""
    inputs, models = task.inputs(train), dict[str, Pipeline]()
    for name in reading.representations(inputs):
        ridge = task.target.ridge().set_params(**settings)
        model = make_pipeline(StandardScaler(), ridge)
        models[name] = model.fit(reading.vectors(inputs, name), task.labels[train])
    return models


def _losses(ridge: Any, penalties: int) -> NDArray[np.float64]:
    """Return the squared leave-one-out errors of each record, by penalty."""
    results = ridge.cv_results_
    means: NDArray[np.float64] = results.reshape(len(results), -1, penalties).mean(axis=1)
    return means


def _least(losses: Mapping[str, NDArray[np.float64]], records: Indices) -> tuple[str, int]:
    """Return the representation and the number of the penalty that some records choose."""
    means = {name: each[records].mean(axis=0) for name, each in losses.items()}
    at = {name: int(mean.argmin()) for name, mean in means.items()}
    scores = {name: -float(mean.min()) for name, mean in means.items()}
    best = _chosen(scores, lambda name: losses[name][records, at[name]])
    return best, at[best]


def _at(train: Indices, records: Indices) -> Indices:
    """Return where some records are in `train`."""
    order = np.argsort(train)
    return order[np.searchsorted(train, records, sorter=order)]


def _chosen(scores: Mapping[str, float], errors: Callable[[str], NDArray[np.float64]]) -> str:
    """Return the representation with the least error, as described.

    `scores` are negative mean errors, and `errors` are those of each record [M].
    """

    def best(single: bool) -> str | None:
        names = [name for name in scores if name.startswith(LAYER) == single]
        return max(names, key=lambda name: scores[name], default=None)

    joint, layer = best(False), best(True)
    if joint is None or layer is None:
        return str(joint or layer)
    if scores[layer] <= scores[joint]:
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
