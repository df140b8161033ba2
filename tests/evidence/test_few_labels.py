"""Scores with few labels: the best of a model, a lead, means over tasks."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from broadbase.evidence.few_labels import (
    FEATURES,
    POOLED,
    PUBLISHED,
    RANDOM,
    FewLabels,
    macro,
    mean_interval,
)

ROW = FewLabels(
    "genre",
    5,
    {
        PUBLISHED: {"probe": (0.7, 0.8, 0.9), "centroids": (0.6, 0.7, 0.8)},
        RANDOM: {"probe": (0.2, 0.2, 0.2)},
        FEATURES: {"words": (0.5, 0.6, 0.4), POOLED[1]: (0.6, 0.7, 0.5)},
    },
)


def test_a_lead_is_over_the_best_of_the_other_model() -> None:
    assert ROW.best(FEATURES).method == POOLED[1]
    assert ROW.best(FEATURES, without=POOLED) == ("words", (0.5, 0.6, 0.4))
    assert ROW.best(FEATURES).mean == pytest.approx(0.6)
    differences = (0.0, 0.0, 0.3)  # of the method that was named, not the better one
    half = stats.sem(differences) * stats.t.ppf(0.975, 2)
    assert ROW.lead("centroids") == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert ROW.lead("probe", RANDOM).mean == pytest.approx(0.6)


def test_means_over_tasks_keep_the_splits() -> None:
    assert macro([(0.0, 1.0), (1.0, 1.0)]) == (0.5, 1.0)
    mean, low, high = mean_interval((0.5, 1.0))
    assert low is not None
    assert high is not None
    assert mean == pytest.approx(0.75)
    assert high - mean == pytest.approx(mean - low)


def test_a_row_is_the_same_after_json() -> None:
    assert FewLabels.from_json(json.loads(json.dumps(ROW.as_json()))) == ROW
