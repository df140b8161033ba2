"""Methods for few labels or none: names of classes, and centroids with an unlabelled pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from broadbase.adapt.centroids import class_centroids
from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import LAST, SPREAD, Encoder
from broadbase.adapt.features import classical
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.learning import folds, learn
from broadbase.adapt.methods.centroids import CentroidsConfig
from broadbase.adapt.methods.names import NamesConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.task import Task
from broadbase.adapt.text_features import POOLED_CENTROIDS, WORDS, Latent
from broadbase.commands.work.adapt import method_of
from broadbase.core.errors import ConfigError
from support.adapting import Given, score
from support.bases import base_of, mixed_base, protein_base

NONE = np.zeros(0, dtype=np.int64)


def letters(count: int = 60) -> Task:
    raws = [f"{'aaaaaaaa' if i % 2 else 'zzzzzzzz'}{i // 2}" for i in range(count)]
    return Task.from_records("letters", "bytes", raws, [raw[0] * 2 for raw in raws])


def test_names_need_no_label() -> None:
    task, base = letters(), mixed_base()
    method = NamesConfig(phrases={"aa": "aaaaaaaaaa", "zz": "zzzzzzzzzz"})
    fitted = method.fit(Encoder(base, "bytes"), task, NONE)
    assert score(fitted, task, np.arange(60)) > 0.9
    (row,) = compare(base, task, method, [0], 20, 3, features=True)
    assert row.scores == (1.0, 1.0, 1.0)
    assert row.best_features is None
    swapped = NamesConfig(phrases={"zz": "aaaaaaaaaa", "aa": "zzzzzzzzzz"})
    assert score(swapped.fit(Encoder(base, "bytes"), task, NONE), task, np.arange(60)) < 0.1


def test_no_labels_are_calibrated_without() -> None:
    calibration = learn(Encoder(mixed_base(), "bytes"), letters(), NamesConfig(), NONE)[1]
    assert calibration == {"temperature": 1.0}


def test_two_labels_of_each_class_are_enough_to_calibrate() -> None:
    """There are no more parts than the commonest class has members."""
    train = np.array([0, 1, 2, 3])
    parts = list(folds(letters(), train, seed=0))
    assert len(parts) == 2
    assert all(len(np.unique(letters().labels[fit])) == 2 for fit, _ in parts)
    calibration = learn(Encoder(mixed_base(), "bytes"), letters(), ProbeConfig(), train)[1]
    assert 0 < calibration["temperature"] < np.inf


def test_what_is_read_for_a_class() -> None:
    method = method_of("names", ["template=about {}", "phrases.a_b=A and B", "phrases.c=C"])
    assert isinstance(method, NamesConfig)
    assert [method.texts(x) for x in ("a_b", "c", "Social_and-Medical")] == [
        ["A and B"], ["C"], ["about Social and Medical"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "kind", "task", "message"),
    [
        (NamesConfig(), mixed_base, "values", "numbers cannot be named"),
        (NamesConfig(), protein_base, "protein", "'protein' of this base reads no text"),
        (NamesConfig(phrases={"q": "x"}), mixed_base, "letters", "'q', which is no class"),
        (NamesConfig(template="x"), mixed_base, "letters", "has no {}"),
        (CentroidsConfig(), mixed_base, "values", "numbers have no centroids"),
        (ProbeConfig(), mixed_base, "letters", "probe learns from labels, and has none"),
    ],
)
def test_refusals(method, kind, task, message) -> None:  # type: ignore[no-untyped-def]
    values = Task.from_values("values", "bytes", [str(i) for i in range(40)], list(range(40)))
    proteins = ["ACDEF" + "G" * i for i in range(20)] + ["HIKLM" + "G" * i for i in range(20)]
    tasks = {
        "letters": letters(),
        "values": values,
        "protein": Task.from_records("p", "protein", proteins, ["a"] * 20 + ["h"] * 20),
    }
    with pytest.raises(ConfigError, match=message):
        compare(kind(), tasks[task], method, [0 if task == "letters" else 10], 10, 2)


def test_an_unlabelled_pool_moves_centroids_to_where_records_are() -> None:
    """Two clouds and a label of each, both far from its cloud's middle."""
    rng = np.random.default_rng(0)
    middles = np.eye(20)[:2]
    clouds = [middle + 0.12 * rng.normal(size=(150, 20)) for middle in middles]
    labelled = np.stack([middles[k] + 0.5 * rng.normal(size=20) for k in (0, 1)])
    rows = np.concatenate([labelled, *clouds]).astype(np.float32)
    raws = [str(i) for i in range(len(rows))]
    task = Task.from_records("clouds", "bytes", raws, ["0", "1", *["0"] * 150, *["1"] * 150])
    pooled = replace(task, unlabelled=raws[2:100] + raws[152:250])
    test, train = np.r_[100:152, 250:302], np.arange(2)
    encoder = Given(task, rows)
    alone = CentroidsConfig().fit(encoder, task, train)
    refined = CentroidsConfig().fit(encoder, pooled, train)
    assert score(refined, task, test) > 0.99 > score(alone, task, test)
    unused = CentroidsConfig(rounds=0).fit(encoder, pooled, train)
    np.testing.assert_array_equal(unused.arrays()["weight"], alone.arrays()["weight"])


def test_a_class_without_a_label_is_never_predicted() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]])
    result, centre = class_centroids(vectors, np.array([0, 2]), vectors[:0], 3, 5, 1.0)
    np.testing.assert_allclose(result, np.array([[1, -1], [0, 0], [-1, 1]]) / np.sqrt(2))
    np.testing.assert_allclose(centre, [0.5, 0.5])
    task = letters()
    fitted = CentroidsConfig().fit(Encoder(mixed_base(), "bytes"), task, np.array([1, 3]))
    assert set(fitted.outputs(task.inputs(np.arange(20))).argmax(1)) == {int(task.labels[1])}


def test_vectors_do_not_depend_on_what_was_kept() -> None:
    """Of a tower with a final norm too; each layer is a part of all."""
    pictures = [np.full((64, 64, 3), 9 * i, dtype=np.uint8) for i in range(2)]
    images = base_of("image", pictures)
    for base, modality, raws in ((mixed_base(), "bytes", ["a", "bb"]), (images, "image", pictures)):
        encoder, inputs = Encoder(base, modality), Inputs(raws)
        kept = encoder.after(inputs)
        names = encoder.representations(inputs)
        assert names[0] == LAST
        every = encoder.vectors(inputs, names[min(1, len(names) - 1)])
        for i, name in enumerate(names):
            result = encoder.vectors(inputs, name)
            np.testing.assert_array_equal(result, kept.vectors(inputs, name))
            if name.startswith("layer "):
                width = encoder.width
                np.testing.assert_array_equal(result, every[:, (i - 2) * width : (i - 1) * width])
        assert (f"{LAST}{SPREAD}" in names) == (modality == "image")


def test_hand_made_features_of_words_get_the_same_pool() -> None:
    """Words that a labelled text lacks are tied to its class by texts without labels."""
    kinds = {"x": ("rain", "cloud", "storm", "wind"), "y": ("goal", "match", "team", "coach")}
    rng = np.random.default_rng(0)
    labels = [name for name in kinds for _ in range(60)]
    raws = [f"{' '.join(rng.choice(kinds[name], 2))}" for name in labels]
    task = Task.from_records("words", "text", raws, labels)
    pooled = replace(task, unlabelled=raws)
    train, test = np.array([0, 60]), np.arange(120)
    alone, given = (
        {name: score(train, test, 0) for name, score in classical(t, POOLED_CENTROIDS).items()}
        for t in (task, pooled)
    )
    assert given["LSA centroids with the pool"] > 0.95 > alone["LSA centroids with the pool"]
    few = np.r_[0:10, 60:70]
    linear = {name: score(few, test, 0) for name, score in classical(pooled, WORDS).items()}
    assert set(linear) == {"TF-IDF of words", "LSA with the pool"}
    assert min(linear.values()) > 0.7


def test_topics_are_those_of_all_texts_whichever_have_labels() -> None:
    task = letters(30)
    first, second = Latent(task.raws[10:]), Latent(task.raws[:20])
    first.fit(task.raws[:10]), second.fit(task.raws[20:])
    assert np.array_equal(first.transform(task.raws), second.transform(task.raws))
    other = Latent(task.raws[:20]).fit(task.raws[:5])
    assert other.words_.vocabulary_ != first.words_.vocabulary_
