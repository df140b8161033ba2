"""Records read with passages of an index: answers that need them, citations, abstention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.methods.retrieve import NEVER, RetrieveConfig, threshold_for
from broadbase.adapt.reading import as_read
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.base import Base
from support.adapting import saved
from support.base_indexes import indexed
from support.bases import TEXTS, mixed_base, text_base

NAMES = [f"item{a}{b}" for a in "abcdefgh" for b in "pqrst"]
KINDS = [" ".join([word] * 8) for word in ("hat", "cat")]


def facts() -> dict[str, str]:
    """What each item is: the records themselves do not say it."""
    return {f"{name}.txt": f"{name} is {KINDS[i % 2]}" for i, name in enumerate(NAMES)}


def task() -> Task:
    labels = [("hat", "cat")[i % 2] for i in range(len(NAMES))]
    return Task.from_records("kind", "text", NAMES, labels)


@pytest.fixture
def base() -> Base:
    return text_base()


def method(path: Path, **more: Any) -> RetrieveConfig:
    return RetrieveConfig(index=str(path), weight=0.0, **more)


def test_a_passage_says_what_the_record_does_not(tmp_path: Path, base: Base) -> None:
    index, read = indexed(tmp_path / "i", base, facts()), as_read(base, task())
    train, test = np.arange(20), np.arange(20, 40)
    encoder = Encoder(base, "text")
    with_passages = method(index).fit(encoder, read, train)
    assert read.score(with_passages.outputs(read.inputs(test)), test) >= 0.95
    alone = ProbeConfig().fit(encoder, read, train)
    assert read.score(alone.outputs(read.inputs(test)), test) < 0.9


def test_predictions_cite_and_are_the_same_in_a_new_process(tmp_path: Path, base: Base) -> None:
    index = indexed(tmp_path / "i", base, facts())
    adapted = saved(tmp_path / "a", as_read(base, task()), base, method(index))
    again = load_adapted(tmp_path / "a")
    rows = [*again.predict(NAMES[:4])]
    assert rows == [*adapted.predict(NAMES[:4])]
    assert [row["source"] for row in rows] == [f"{name}.txt" for name in NAMES[:4]]
    text = facts()[rows[0]["source"]]
    assert rows[0]["span"] == f"0-{len(text)}"
    assert rows[0]["abstained"] == ""
    assert set(again.columns) == set(rows[0])


def test_an_index_that_grows_is_used_as_it_is_now(tmp_path: Path, base: Base) -> None:
    index = indexed(tmp_path / "i", base, facts())
    saved(tmp_path / "a", as_read(base, task()), base, method(index))
    indexed(index, base, {"new.txt": f"newitem is {KINDS[0]}"})
    (row,) = load_adapted(tmp_path / "a").predict(["newitem"])
    assert (row["label"], row["source"]) == ("hat", "new.txt")


def test_it_abstains_where_nothing_is_near(tmp_path: Path, base: Base) -> None:
    some = dict([*facts().items()][:30])  # nothing is written of the last ten
    index = indexed(tmp_path / "i", base, some)
    adapted = saved(tmp_path / "a", as_read(base, task()), base, method(index, least=0.9))
    rows = [*adapted.predict([NAMES[0], NAMES[35]])]
    assert [row["abstained"] for row in rows] == ["", "yes"]
    assert rows[1]["label"] is None
    assert rows[0]["label"] == "hat"


def test_texts_are_generated_from_the_passage(tmp_path: Path, base: Base) -> None:
    index = indexed(tmp_path / "i", base, facts())
    answers = [KINDS[i % 2] for i in range(len(NAMES))]
    read = as_read(base, Task.from_texts("what", "text", NAMES, answers))
    how = method(index, then=FinetuneConfig(steps=2, batch=4))
    adapted = saved(tmp_path / "a", read, base, how)
    rows = [*load_adapted(tmp_path / "a").predict(NAMES[:2])]
    assert rows == [*adapted.predict(NAMES[:2])]
    assert [row["source"] for row in rows] == [f"{name}.txt" for name in NAMES[:2]]


def test_the_nearest_passage_by_vectors(tmp_path: Path, base: Base) -> None:
    texts = {str(i): text for i, text in enumerate(TEXTS)}
    index = indexed(tmp_path / "i", base, texts)
    encoder = Encoder(base, "text")
    fitted: Any = RetrieveConfig(index=str(index), weight=1.0)._retriever(encoder, str(index))
    raw = "the hat of a cat"
    (hit,) = fitted.best([raw])
    vectors = encoder.vectors(Inputs([raw, *TEXTS]), LAST)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[1:] @ vectors[0]
    assert hit.origin == str(int(cosines.argmax()))
    assert hit.cosine == pytest.approx(float(cosines.max()), abs=1e-3)


def test_a_record_is_no_passage_of_itself(tmp_path: Path, base: Base) -> None:
    index = indexed(tmp_path / "i", base, {"self": NAMES[0], "other": f"{NAMES[0]} is the hat"})
    retriever: Any = method(index)._retriever(Encoder(base, "text"), str(index))
    assert [hit.origin for hit in retriever.best([NAMES[0]])] == ["other"]


def test_it_is_compared_with_the_method_without_passages(tmp_path: Path, base: Base) -> None:
    index = indexed(tmp_path / "i", base, facts())
    (result,) = compare(base, task(), method(index), [20], 20, 2)
    names = {each.baseline for each in result.comparisons}
    assert any("unchanged" in name for name in names)


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 1.0])), min_size=1),
    st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_the_threshold_keeps_most_records_at_the_score_that_is_wanted(
    pairs: list[tuple[float, float]], least: float
) -> None:
    near, scores = (np.array(x) for x in zip(*pairs, strict=True))
    threshold, coverage = threshold_for(near, scores, least)
    good = {t for t in near if scores[near >= t].mean() >= least}
    assert threshold == (min(good) if good else NEVER)
    assert coverage == (near >= threshold).mean()


def test_bad_settings_are_named(tmp_path: Path, base: Base) -> None:
    index, read = indexed(tmp_path / "i", base, facts()), as_read(base, task())
    assert "--set index=FILE" in RetrieveConfig().refusal(base, read)
    with pytest.raises(DataError, match="is no index"):
        method(tmp_path / "none").refusal(base, read)
    with pytest.raises(ConfigError, match="an index of another base"):
        method(index).refusal(base.reinitialised(5), read)
    values = Task.from_values("n", "text", NAMES, [float(i) for i in range(len(NAMES))])
    assert "least" in method(index, least=0.5).refusal(base, values)
    pictures = replace(values, raws=[np.zeros((4, 4))] * len(NAMES), modality="image")
    assert "after a text" in method(index).refusal(mixed_base(), pictures)
    assert method(index, then=KnnConfig()).refusal(base, read) == ""
