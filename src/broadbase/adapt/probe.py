"""The frozen probe: a linear model on a base's vectors; the base itself does not move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from broadbase.adapt.splits import Indices
from broadbase.adapt.task import Task

PENALTIES = np.logspace(-1, 6, 15)


def probe(
    candidates: Sequence[NDArray[np.float32]], task: Task, train: Indices, test: Indices
) -> float:
    """Score ridge regression on standardised vectors [M,D], learned from `train`.

    Of several candidates it takes the one with the least leave-one-out error on `train`.
    """
    models = [make_pipeline(StandardScaler(), ridge(task)) for _ in candidates]
    for model, vectors in zip(models, candidates, strict=True):
        model.fit(vectors[train], task.labels[train])
    best = max(range(len(models)), key=lambda i: models[i][-1].best_score_)
    return task.score(models[best].predict(candidates[best][test]), test)


def ridge(task: Task) -> Any:
    """Ridge on classes or numbers, its penalty chosen by leave-one-out error on what it is fit."""
    return RidgeClassifierCV(alphas=PENALTIES) if task.classes else RidgeCV(alphas=PENALTIES)


def fitted_score(model: Pipeline, inputs: Any, task: Task, train: Indices, test: Indices) -> float:
    """Fit a scikit-learn model to the training records alone; its score on the test records."""
    model.fit(inputs[train], task.labels[train])
    return task.score(model.predict(inputs[test]), test)
