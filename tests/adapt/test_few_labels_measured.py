"""Few labels of each class: splits, and scores of planted texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.adapt.few_labels import balanced, measured, split, thinned
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.task import Task
from broadbase.evidence.few_labels import FEATURES, OWN, PUBLISHED
from support.bases import text_base

WORDS = {"sea": "wave salt ship", "wood": "tree moss fern", "town": "road shop lamp"}


def planted(each: int, groups: bool = False) -> Task:
    """Texts that say their class in plain words."""
    raws = [f"{words} {i}" for i in range(each) for words in WORDS.values()]
    labels = [name for _ in range(each) for name in WORDS]
    files = [str(i % 9) for i in range(len(raws))] if groups else None
    return Task.from_records("planted", "text", raws, labels, files)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 30), st.integers(0, 50), st.booleans())
def test_a_split_keeps_sides_and_groups_apart(each: int, seed: int, groups: bool) -> None:
    task = planted(each, groups)
    pool, held = split(task, seed, 20)
    assert len(held) <= 20
    assert not set(pool) & set(held)
    if task.groups is not None:
        assert not set(task.groups[pool]) & set(task.groups[held])
    else:
        assert np.ptp(np.bincount(task.labels[pool])) <= 1
    chosen = balanced(task, pool, 2)
    assert set(chosen) <= set(pool)
    assert (np.bincount(task.labels[chosen]) <= 2).all()


def test_a_thinned_task_keeps_the_shares_of_classes_and_the_labels_of_records() -> None:
    task, labels = planted(40), {}
    labels.update(zip(task.raws, task.labels, strict=True))
    few = thinned(task, 60)
    assert list(np.bincount(few.labels)) == [20, 20, 20]
    assert [labels[raw] for raw in few.raws] == list(few.labels)
    assert thinned(task, 1000) is task
    assert list(thinned(task, 60).raws) == list(few.raws)


def test_every_model_is_scored_on_every_split() -> None:
    task, bases = planted(12), {PUBLISHED: text_base(), OWN: text_base()}
    rows = list(measured(bases, task, 3, 30, labels=(2, 4), methods=(ProbeConfig(),)))
    assert [row.labels for row in rows] == [2, 4]
    for row in rows:
        assert set(row.scores) == {PUBLISHED, OWN, FEATURES}
        assert all(len(each) == 3 for methods in row.scores.values() for each in methods.values())
        assert row.scores[PUBLISHED] == row.scores[OWN]  # two equal bases, the same records
    assert rows[-1].best(FEATURES).mean == pytest.approx(1.0)  # the words say the class
