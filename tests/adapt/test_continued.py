"""Continued pretraining: what it reads, what it trains, and what becomes of the base."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from broadbase.adapt.adapted import load_adapted
from broadbase.adapt.compare import compare
from broadbase.adapt.continued_objectives import NEAREST, Views, shifted
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.methods.continued import ContinueConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.pretraining import Pretraining, PretrainingConfig, epochs
from broadbase.adapt.result import UNCHANGED
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError, DivergedError
from broadbase.core.sources import Pair
from broadbase.core.view import Stream, View
from broadbase.inference.base import Base
from broadbase.modalities.noise import corruptions
from support.adapting import saved
from support.bases import mixed_base, protein_base
from support.programs import run

SHORT = ContinueConfig(steps=3, batch=4)
CLASSES = np.arange(40) % 2
WORDS = [f"{'apple' if i % 2 else 'drill'} {i}" for i in range(40)]
POOL = [f"{'pear' if i % 2 else 'saw'} {i}" for i in range(20)]


def things() -> Task:
    labels = ["tool" if c else "fruit" for c in CLASSES]
    return replace(Task.from_records("things", "bytes", WORDS, labels), unlabelled=POOL)


def weights(base: Base) -> dict[str, torch.Tensor]:
    return dict(base.model.state_dict())


def equal(first: Base, second: Base) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def trained(base: Base, raws: Sequence[Any], seed: int = 0, **settings: Any) -> Base:
    modality = next(iter(base.codecs))
    return Pretraining(PretrainingConfig(**settings), base, modality).train(raws, seed)[0]


@pytest.mark.parametrize("then", ["probe", {"name": "finetune", "steps": 2}])
def test_a_new_process_predicts_the_same(tmp_path: Path, then: Any) -> None:
    method = ContinueConfig(steps=2, batch=4, then=then)
    learned = saved(tmp_path / "out", things(), mixed_base(), method)
    code = (
        "import json, sys, broadbase\n"
        "adapted = broadbase.load_adapted(sys.argv[1])\n"
        "print(json.dumps([adapted.predict(json.loads(sys.argv[2])), adapted.fitted.parameters]))"
    )
    done = run(code, tmp_path / "out", json.dumps([*WORDS[:9], "new"]), check=True)
    rows, parameters = json.loads(done.stdout)
    assert rows == learned.predict([*WORDS[:9], "new"])
    assert parameters == learned.fitted.parameters
    about = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert about["facts"]["records"] == 60
    assert about["base"]["copied"]
    assert not equal(load_adapted(tmp_path / "out").fitted.base, mixed_base())


def test_the_trained_base_has_the_parts_of_the_base_and_the_base_does_not_move() -> None:
    for base, objective in (
        (protein_base("full"), "neighbours"),
        (protein_base("causal"), "neighbours"),
        (protein_base("full"), "views"),
        (protein_base("full"), "masked"),
        (protein_base("causal"), "causal"),
    ):
        before = {name: value.clone() for name, value in weights(base).items()}
        after = trained(base, ["ACDEF", "GHIKL", "ACDKL"], objective=objective, steps=2, batch=2)
        assert after.config == base.config
        assert weights(after).keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in weights(base).items())
        assert not equal(after, base)
        assert not after.model.training


def test_chance_is_that_of_the_seed() -> None:
    base, raws = protein_base(), ["ACDEF", "GHIKL", "ACDKL", "KLMNP"]
    settings = {"steps": 2, "batch": 2}
    assert equal(trained(base, raws, 1, **settings), trained(base, raws, 1, **settings))
    assert not equal(trained(base, raws, 1, **settings), trained(base, raws, 2, **settings))


def loss_of(pretraining: Pretraining, raws: Sequence[str]) -> float:
    """The loss of the first step on these records, before it."""
    student, objective = pretraining._student(0), pretraining.objective.build()
    corrupt = corruptions(student.config.modalities, student.codecs)
    batch = next(pretraining._batches(raws, corrupt, 5, 0))
    with torch.no_grad():
        views = objective.views(batch, corrupt)
        losses = objective.loss([student.model(view) for view in views], views)
    (total,), (weight,) = losses.values(), objective.term_weights(views).values()
    return float(total) / weight.weight


@pytest.mark.parametrize("objective", ["causal", "masked", "views"])
def test_what_is_learned_holds_for_other_records(objective: str) -> None:
    """Proteins of one motif, written from any letter on: a loss that falls for those not read."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 10, 60)
    raws = [("ACDEFGHIKL" * 3)[i : i + int(rng.integers(8, 16))] for i in starts]
    if objective == "views":
        raws = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 12)) for _ in range(60)]
    base = protein_base("causal" if objective == "causal" else "full")
    after = trained(base, raws[:40], objective=objective, steps=60, batch=16, lr=1e-2)
    config = PretrainingConfig(objective=objective, batch=20)  # type: ignore[arg-type]
    before, then = (loss_of(Pretraining(config, b, "protein"), raws[40:]) for b in (base, after))
    assert then < 0.75 * before


def test_records_move_towards_their_neighbours() -> None:
    """Three topics of letters: after it, records not read are nearer to the mean of their topic."""
    rng = np.random.default_rng(0)
    topics = ["ACDEF", "GHIKL", "MNPQR"]
    raws = ["".join(rng.choice(list(topics[i % 3]), 12)) for i in range(120)]
    base = protein_base()
    settings = {"steps": 30, "batch": 16, "lr": 3e-3}
    after = trained(base, raws[:90], objective="neighbours", **settings)

    def spread(one: Base) -> float:
        """The mean distance of records of the test to the mean of their topic, by that to all."""
        x = one.embed(raws[90:], layers=False)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        means = np.stack([x[k::3].mean(axis=0) for k in range(3)])
        inside = np.linalg.norm(x - means[np.arange(30) % 3], axis=1).mean()
        return float(inside / np.linalg.norm(x - x.mean(axis=0), axis=1).mean())

    assert spread(after) < 0.8 * spread(base)


def test_targets_are_a_step_of_mean_shift() -> None:
    """Computed record by record, with all cosines."""
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    unit = [v / np.sqrt((v * v).sum()) for v in vectors]
    for i, target in enumerate(shifted(vectors)):
        order = sorted(range(50), key=lambda j: -float(unit[i] @ unit[j]))
        mean = sum(unit[j] for j in order[:NEAREST]) / NEAREST
        assert target == pytest.approx(unit[i] + mean, abs=1e-5)
    assert shifted(vectors[:1])[0] == pytest.approx(2 * unit[0], abs=1e-6)


def test_the_loss_of_views_is_that_of_simcse() -> None:
    """Gao et al. 2021, equation 1, both ways, computed from the states of the model alone."""
    base, raws = protein_base(), ["ACDEFGHIKL", "MNPQ", "RSTVWY", "ACDACD"]
    pretraining = Pretraining(PretrainingConfig(objective="views", hidden=0.3), base, "protein")
    corrupt = corruptions(base.config.modalities, base.codecs)
    batch = next(pretraining._batches(raws, corrupt, 5, 0))
    means = []
    for side in Views.heads:
        stream = Stream("main", "main", (batch.segments[side],))
        means.append(F.normalize(base.model(View((stream,))).streams["main"].pooled, dim=-1))
    logits = 20 * means[0] @ means[1].T
    same = torch.arange(4)
    expected = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
    assert loss_of(pretraining, raws) == pytest.approx(expected.item(), rel=1e-5)


def test_views_lack_their_share_of_the_tokens_and_differ() -> None:
    base = protein_base()
    pretraining = Pretraining(
        PretrainingConfig(objective="views", hidden=0.3, batch=32), base, "protein"
    )
    corrupt = corruptions(base.config.modalities, base.codecs)
    raws = ["ACDEFGHIKLMNPQRSTVWY" * 2] * 31 + ["ACD"]
    batch = next(pretraining._batches(raws, corrupt, 0, 0))
    first, second = (batch.segments[side] for side in Views.heads)
    assert first.masked is not None
    assert second.masked is not None
    assert not first.masked[:, 0].any()  # the start
    assert first.document is not None
    long = first.masked[first.document[:, 40] == 0, 1:41]
    assert 0.2 < long.float().mean() < 0.3  # 8 of 10 that are chosen are hidden
    assert not torch.equal(first.masked, second.masked)
    assert not first.masked[first.document < 0].any()  # padding


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200),
    size=st.integers(2, 40),
    seed=st.integers(0, 9),
)
def test_an_epoch_has_a_record_at_most_once(lengths: list[int], size: int, seed: int) -> None:
    batches = epochs(lengths, size, seed)
    per_epoch = max(1, len(lengths) // size)
    for _ in range(2):
        epoch = list(islice(batches, per_epoch))
        assert {len(batch) for batch in epoch} == {min(size, len(lengths))}
        assert max(Counter(i for batch in epoch for i in batch).values()) == 1


def test_records_of_a_batch_are_about_as_long() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 320).tolist()
    spreads = [np.ptp([lengths[i] for i in batch]) for batch in islice(epochs(lengths, 20, 0), 16)]
    assert np.mean(spreads) < 15  # of random batches about 90


def test_what_cannot_be_continued_is_refused() -> None:
    task, base = things(), mixed_base()
    assert SHORT.refusal(base, task) == ""
    assert "--unlabelled DATA, or rows" in SHORT.refusal(base, replace(task, unlabelled=()))
    other = {"causal": "full", "full": "causal"}[base.attention_pattern("bytes")]
    wrong = ContinueConfig(objective="masked" if other == "full" else "causal")
    assert f"the base has {base.attention_pattern('bytes')}" in wrong.refusal(base, task)
    numbers = Task.from_values("n", "bytes", WORDS, np.arange(40.0).tolist())
    numbers = replace(numbers, unlabelled=POOL)
    assert "centroids" in ContinueConfig(then="centroids").refusal(base, numbers)
    with pytest.raises(ConfigError, match="learns from records without labels"):
        compare(base, replace(task, unlabelled=()), SHORT, [20], 10, 2)
    with pytest.raises(ConfigError, match="did you mean `probe`"):
        MethodConfig.from_tree({"name": "continue", "then": "prob"})


def test_neither_labels_nor_records_of_the_test_are_used() -> None:
    """Other labels of the test and other records there: the same base, to the bit."""
    task, train, test = things(), np.arange(20), np.arange(20, 40)
    encoder = Encoder(mixed_base(), "bytes")
    fitted = SHORT.fit(encoder, task, train, 0)
    other = task.labels.copy()
    other[test] = 1 - other[test]
    raws = [*WORDS[:20], *(f"nothing of that {i}" for i in range(20))]
    changed = SHORT.fit(encoder, replace(task, labels=other, raws=raws), train, 0)
    assert equal(fitted.base, changed.base)
    assert (fitted.arrays()["weight"] == changed.arrays()["weight"]).all()
    more = SHORT.fit(encoder, replace(task, unlabelled=[*POOL, "another"]), train, 0)
    assert not equal(fitted.base, more.base)


def test_it_is_compared_with_the_unchanged_base() -> None:
    task = things()
    counted: list[int] = []
    method = ContinueConfig(steps=2, batch=4)
    (result,) = compare(mixed_base(), task, method, [20], 20, 2)
    (probe,) = compare(mixed_base(), task, ProbeConfig(), [20], 20, 2)
    assert result.against(UNCHANGED).other_per_item == probe.scores
    assert method.work == 2
    method.fit(Encoder(mixed_base(), "bytes"), task, np.arange(20), 0, counted.append)
    assert counted == [1, 1]


def test_it_is_like_the_method_that_learns_the_labels() -> None:
    """Names of classes need no label, also after continued pretraining."""
    task, method = things(), ContinueConfig(steps=2, batch=4, then="names")
    assert not method.needs_labels
    assert ContinueConfig(then="knn").by_neighbours
    (result,) = compare(mixed_base(), task, method, [0], 20, 2)
    assert result.train_size == 0


def test_pairs_are_read_one_item_after_the_other(tmp_path: Path) -> None:
    raws = [Pair(WORDS[i], WORDS[(i + 1 + i % 2) % 40]) for i in range(40)]
    task = Task.from_records("pairs", "bytes", raws, ["ab"[i % 2] for i in range(40)])
    task = replace(task, unlabelled=[Pair(a, b) for a, b in zip(POOL[:9], POOL[9:], strict=False)])
    assert SHORT.refusal(mixed_base(), task) == ""
    learned = saved(tmp_path / "out", task, mixed_base(), SHORT)
    assert learned.fitted.facts["records"] == 2 * (9 + 40)
    assert len(learned.predict([Pair("apple 1", "drill 2")])) == 1


def test_a_learning_rate_that_diverges_is_named() -> None:
    with pytest.raises(DivergedError, match=r"^continued pretraining diverged at") as error:
        trained(protein_base(), ["ACDEF", "GHIKL"], objective="masked", steps=50, batch=2, lr=1e30)
    assert "--set lr=1e+29" in str(error.value)
