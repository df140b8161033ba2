"""Results of a task: all baselines, their best, and no interval of too few splits."""

from __future__ import annotations

import json

import pytest

from broadbase.adapt.result import MOST_FREQUENT, RANDOM_INIT, TaskResult, compare_splits
from broadbase.evidence.comparison import Metric

ACCURACY = Metric("accuracy", "higher")


def result(scores: tuple[float, ...], seeds: int = 1, truncated: int = 0) -> TaskResult:
    splits = len(scores) // seeds
    baselines = {
        MOST_FREQUENT: [0.5] * splits,
        RANDOM_INIT: [0.4, 0.5, 0.6][:splits],
        "pixels": [0.1, 0.2, 0.3][:splits],
        "forest": [0.2, 0.3, 0.4][:splits],
    }
    rows = compare_splits("t", ACCURACY, (9, 20), scores, baselines, seeds)
    return TaskResult("t", "probe", ACCURACY, 9, 20, scores, rows, seeds, truncated, 64)


def test_two_splits_have_no_interval() -> None:
    two = result((0.5, 0.7))
    assert two.random_init.gap == (pytest.approx(0.15), None, None)
    assert two.random_init.verdict == "undecided"
    assert "2 splits: no interval" in two.title
    three = result((0.5, 0.7, 0.6))
    assert three.random_init.gap.low is not None
    assert "95 % intervals" in three.title


def test_every_baseline_is_compared_split_by_split() -> None:
    """With several pretraining seeds a baseline's splits are those of each seed."""
    both = result((0.5, 0.7, 0.6, 0.7, 0.9, 0.8), seeds=2)
    assert both.splits == 3
    assert both.random_init.other_per_item == (0.4, 0.5, 0.6) * 2
    assert both.random_init.gap.mean == pytest.approx(0.2)
    assert both.chance.other == 0.5
    assert both.best_features is not None
    assert both.best_features.baseline == "forest"
    assert both.best_features.items == 20
    assert both.best_features.train_size == 9


def test_the_title_says_what_was_truncated() -> None:
    assert "truncated" not in result((0.5, 0.7)).title
    assert "1 record truncated to 64 tokens" in result((0.5, 0.7), truncated=1).title
    assert "2 records truncated to 64 tokens" in result((0.5, 0.7), truncated=2).title


def test_json_has_the_scores_of_every_split() -> None:
    values = json.loads(json.dumps(result((0.5, 0.7)).as_json()))
    assert values["scores"] == [0.5, 0.7]
    assert values["best_features"] == "forest"
    rows = {row["baseline"]: row for row in values["comparisons"]}
    assert rows[RANDOM_INIT]["baseline_scores"] == [0.4, 0.5]
    assert rows[RANDOM_INIT]["ci_low"] is None
    assert (rows["pixels"]["train_size"], values["test_size"]) == (9, 20)
