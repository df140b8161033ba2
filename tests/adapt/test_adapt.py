"""Transfer on planted truth: what is there is found, what is not there is not claimed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit.Chem import MolFromSmiles
from rdkit.Chem.Descriptors import MolWt

from broadbase.adapt.compare import compare
from broadbase.adapt.encoder import LAST, Encoder, Vectors
from broadbase.adapt.features import BASELINES, classical
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.kinds import NUMBERS
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.finetune import FinetuneConfig
from broadbase.adapt.methods.knn import KnnConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.reading import as_read
from broadbase.adapt.result import RANDOM_INIT
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.core.codec import Sample
from broadbase.core.errors import ConfigError, DataError
from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.inference.base import Base
from broadbase.inference.truncation import Truncated
from support.adapting import METHODS, Given, names, probe, score
from support.bases import mixed_base

WORDS = {"fruit": ["apple", "pear", "plum", "fig"], "tool": ["saw", "drill", "axe", "file"]}


def task(count: int = 120, shuffled: bool = False) -> Task:
    rng = np.random.default_rng(0)
    labels = [str(name) for name in rng.choice(list(WORDS), count)]
    raws = [" ".join(rng.choice(WORDS[name], 3)) for name in labels]
    if shuffled:
        labels = [str(name) for name in rng.permutation(labels)]
    return Task.from_records("things", "bytes", raws, labels)


@dataclass(frozen=True, repr=False)
class Watched(Base):
    """A base that, before it makes a random init, counts those of before that are still alive."""

    inits: list[weakref.ref[Any]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)

    def reinitialised(self, seed: int) -> Base:
        gc.collect()
        self.alive.append(sum(init() is not None for init in self.inits))
        init = super().reinitialised(seed)
        self.inits.append(weakref.ref(init.model))
        return init


@pytest.mark.parametrize("method", [ProbeConfig(), FinetuneConfig(steps=1, batch=4)], ids=names)
def test_one_random_init_at_a_time_is_in_memory(method: MethodConfig) -> None:
    base = mixed_base()
    watched = Watched(base.config, base.model, base.codecs, base.usage)
    (result,) = compare(watched, task(60), method, [20], 20, 4)
    assert watched.alive == [0, 0, 0, 0]
    assert {row.baseline for row in result.comparisons} >= {RANDOM_INIT}


def test_finetuning_learns_what_is_there() -> None:
    things, base = task(), mixed_base()
    train, test = things.split(60, 60, seed=0)
    adapted = FinetuneConfig(steps=60, batch=16, lr=1e-2).fit(Encoder(base, "bytes"), things, train)
    assert score(adapted, things, test) > 0.9
    assert "label" not in base.model.spaces


def test_finetuning_learns_nothing_where_nothing_is() -> None:
    things, base = task(shuffled=True), mixed_base()
    train, test = things.split(60, 60, seed=0)
    adapted = FinetuneConfig(steps=20, batch=16).fit(Encoder(base, "bytes"), things, train)
    assert 0.25 < score(adapted, things, test) < 0.75


def test_a_probe_of_the_same_weights_gains_nothing() -> None:
    """Pretrained = random init of another seed: no interval may exclude 0 on both sides alike."""
    base = mixed_base().reinitialised(99)
    (row,) = compare(base, task(), ProbeConfig(), [40], test=60, seeds=5)
    comparison = row.random_init
    assert len(row.scores) == len(comparison.other_per_item) == 5
    assert min(row.scores) > 0.8
    mean, low, high = comparison.gap
    assert abs(mean) < 0.05
    assert low is not None
    assert high is not None
    assert low <= mean <= high


def test_a_base_reads_the_records_that_splits_use() -> None:
    """The scores of a probe on the vectors of all records, from a base that saw some of them."""
    base, things = mixed_base(), task(200)
    things = replace(things, raws=[f"{raw} {i}" for i, raw in enumerate(things.raws)])
    (row,) = compare(base, things, ProbeConfig(), [20], 20, 3)
    splits = [things.split(20, 20, seed) for seed in range(3)]
    everything = things.inputs(np.arange(200))

    def scores(base: Base, seeds: Sequence[int]) -> tuple[float, ...]:
        encoder = Encoder(base, "bytes")
        encoder.keep(everything)
        both = [things.split(20, 20, seed) for seed in seeds]
        return tuple(score(ProbeConfig().fit(encoder, things, a), things, b) for a, b in both)

    assert row.scores == scores(base, range(3))
    inits = [scores(base.reinitialised(seed), [seed])[0] for seed in range(3)]
    assert row.random_init.other_per_item == tuple(inits)
    splits = [things.split(20, 20, seed) for seed in range(3)]
    used = {int(i) for split in splits for part in split for i in part}
    read = list[str]()

    class Noting(Truncated):
        def encode(self, raw: str) -> Sample:
            read.append(raw)
            return super().encode(raw)

    noting = replace(base, codecs={"bytes": Noting(base.codecs["bytes"], 99)})
    assert compare(noting, as_read(base, things), KnnConfig(), [20], 20, 3)
    assert set(read) == {things.raws[i] for i in used}


def test_macro_f1_counts_every_class_alike() -> None:
    labels = ["a"] * 8 + ["b"] * 2
    rare = Task.from_records("rare", "bytes", ["x"] * 10, labels, macro=True)
    outputs = np.eye(2)[[0] * 8 + [0, 1]]
    assert rare.target.metric.name == "macro-F1"
    assert rare.score(outputs, np.arange(10)) == pytest.approx((16 / 17 + 2 / 3) / 2)
    assert rare.constant() == ("most frequent class", pytest.approx((16 / 18) / 2))


def test_splits_are_apart_and_repeat() -> None:
    things = task()
    train, test = things.split(40, 50, seed=1)
    assert not set(train) & set(test)
    assert len(train) == 40
    assert len(test) == 50
    again, _ = things.split(40, 50, seed=1)
    other, _ = things.split(40, 50, seed=2)
    assert list(again) == list(train)
    assert list(other) != list(train)


def test_groups_stay_on_one_side() -> None:
    things = task()
    files = [str(i // 6) for i in range(len(things.raws))]
    labels = [things.target.names[label] for label in things.labels]
    grouped = Task.from_records("g", "bytes", things.raws, labels, files)
    train, test = grouped.split(30, 100, seed=0)
    assert grouped.groups is not None
    assert not set(grouped.groups[train]) & set(grouped.groups[test])


def test_no_group_is_always_on_one_side() -> None:
    """A third of all records is one group: sometimes tested, sometimes trained on."""
    things = task(300)
    labels = [things.target.names[label] for label in things.labels]
    groups = ["large" if i < 100 else str(i) for i in range(300)]
    grouped = Task.from_records("g", "bytes", things.raws, labels, groups)
    tested = {0 in grouped.split(60, 300, seed)[1] for seed in range(12)}
    assert tested == {True, False}


def test_fewer_labels_than_requested_are_refused() -> None:
    """Three groups of 40: two thirds of 120 records can be trained on, not 100 of them."""
    things = task()
    labels = [things.target.names[label] for label in things.labels]
    grouped = Task.from_records("g", "bytes", things.raws, labels, [str(i % 3) for i in range(120)])
    assert len(grouped.split(80, 10, 0)[0]) == 80
    with pytest.raises(DataError, match=r"80 records are left .* too few for 100 labels"):
        grouped.split(100, 10, 0)


def test_bad_tasks(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(DataError, match="needs at least two"):
        Task.from_records("t", "bytes", ["a", "b"], ["x", "x"])
    with pytest.raises(DataError, match="too few for 500 labels"):
        task().split(500, 10, seed=0)
    path = tmp_path / "t.jsonl"  # type: ignore[operator]
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:1 has no label"):
        read_task("t", "bytes", JsonLinesConfig(path=str(path)))


def numbers(count: int = 400, noise: bool = False) -> tuple[Task, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 12)).astype(np.float32)
    values = rng.normal(size=count) if noise else vectors @ np.arange(12) + 100
    return Task.from_values("line", "bytes", [str(v) for v in values], values), vectors


def test_a_probe_finds_a_line_and_no_line_in_noise() -> None:
    for noise, low, high in ((False, 0.99, 1.0), (True, -0.3, 0.1)):
        things, vectors = numbers(noise=noise)
        train, test = things.split(100, 200, seed=0)
        assert len(train) == 100
        assert low < probe([vectors], things, train, test) <= high


def test_a_probe_takes_the_candidate_that_says_more() -> None:
    """By its error on the labels it has: noise of many dimensions loses to a line, in any order."""
    things, vectors = numbers()
    noise = np.random.default_rng(1).normal(size=(len(vectors), 60)).astype(np.float32)
    train, test = things.split(40, 200, seed=0)
    assert probe([noise], things, train, test) < 0.5
    for candidates in ([vectors, noise], [noise, vectors]):
        assert probe(candidates, things, train, test) > 0.99


def test_finetuning_on_numbers() -> None:
    rng = np.random.default_rng(0)
    share = rng.random(160)
    raws = ["".join("ab"[int(rng.random() < p)] for _ in range(24)) for p in share]
    things = Task.from_values("share", "bytes", raws, (50 + 20 * share).tolist())
    train, test = things.split(80, 80, seed=0)
    base = mixed_base()
    adapted = FinetuneConfig(steps=80, batch=16, lr=1e-2).fit(Encoder(base, "bytes"), things, train)
    assert score(adapted, things, test) > 0.5


def test_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task 'x': the label of record 1 is nan"):
        Task.from_values("x", "bytes", ["a", "b"], [1.0, float("nan")])
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "many"}')
    source = JsonLinesConfig(path=str(tmp_path / "a.jsonl"), label="label")
    with pytest.raises(DataError, match=r"a.jsonl:1: label 'many' is no number"):
        read_task("x", "bytes", source, kind=NUMBERS)


def test_classical_baselines_read_what_is_there() -> None:
    things = task(200)
    train, test = things.split(100, 100, seed=0)
    (score,) = classical(things).values()
    assert score(train, test, 0) > 0.95
    chains = ["C" * i + tail for i in range(1, 14) for tail in ("O", "N", "Cl", "C=O", "C#N", "F")]
    weights = [MolWt(MolFromSmiles(smiles)) for smiles in chains]
    weight = Task.from_values("weight", "molecule", chains, weights)
    train, test = weight.split(50, 25, seed=0)
    scores = {name: score(train, test, 0) for name, score in classical(weight).items()}
    assert set(scores) == set(BASELINES["molecule"])
    assert scores["descriptors"] > 0.95
    assert classical(Task.from_records("x", "none", ["a", "b"], ["0", "1"])) == {}


def test_several_bases_and_the_best_baseline() -> None:
    bases = [mixed_base(), mixed_base()]
    (row,) = compare(bases, task(), ProbeConfig(), [40], 60, 3, features=True)
    random = row.random_init.other_per_item
    assert len(row.scores) == len(random) == 6
    assert random[:3] == random[3:]
    assert row.best_features is not None
    assert row.best_features.baseline == "TF-IDF of characters"


@pytest.mark.parametrize("method", METHODS, ids=names)
def test_a_modality_that_the_base_has_not_is_named(method: MethodConfig) -> None:
    foreign = Task.from_records("sounds", "audio", ["a", "b"] * 20, ["x", "y"] * 20)
    with pytest.raises(ConfigError, match="no modality 'audio'; it has: bytes"):
        compare(mixed_base(), foreign, method, [10], 10, 2)


@pytest.mark.parametrize("method", METHODS, ids=names)
def test_of_long_records_the_beginning_is_read(method: MethodConfig) -> None:
    """What stands behind it changes no score; whole, one of them would take 60 GB of attention."""
    base, rows = mixed_base(), []
    for tail in ("a", "b"):
        raws = [f"{i}{x * 1100}{tail * 120_000 * (i == 0)}" for i in range(20) for x in "xy"]
        long = Task.from_records("letters", "bytes", raws, ["x", "y"] * 20)
        rows.append(compare(base, long, method, [20], 10, 2)[0])
    assert rows[0].scores == rows[1].scores
    first, second = (row.random_init.other_per_item for row in rows)
    assert first == second
    used = len(
        np.unique(np.concatenate([i for seed in range(2) for i in long.split(20, 10, seed)]))
    )
    assert rows[0].truncated == used
    assert f"{used} records truncated to 1,024 tokens" in rows[0].title


def test_a_single_layer_must_be_better_by_more_than_chance() -> None:
    """A layer with the line wins against noise; one that is a shade better does not."""
    things, vectors = numbers()
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    even = np.arange(len(vectors))[:, None] % 2
    train = things.split(40, 200, seed=0)[0]

    class Layered(Given):
        def representations(self, inputs: Inputs) -> tuple[str, ...]:
            return (LAST, "layer 1")

        def vectors(self, inputs: Inputs, representation: str) -> Vectors:
            return super().vectors(inputs, str(int(representation != LAST)))

    worse, better = vectors + 0.5 * even * noise, vectors + 0.45 * (1 - even) * noise
    for last, layer, chosen in ((noise, vectors, "layer 1"), (worse, better, LAST)):
        fitted = ProbeConfig().fit(Layered(things, last, layer), things, train)
        assert fitted.facts["representation"] == chosen
