"""`check_objective`: built-in objectives keep their promises, and a broken one is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from broadbase.core.contracts import Corruption, ModalityConfig, Objective, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import TermWeight
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.scoring import PerSource
from broadbase.testing import BrokenPromiseError, check_objective
from broadbase.testing.resume import check_resume
from broadbase.testing.trial import Trial
from support.outside import raws, settings


def source(name: str) -> tuple[ModalityConfig, list[Any]]:
    return ModalityConfig.from_tree(settings(name)), raws(name)


@pytest.mark.parametrize("name", ["causal", "masked"])
def test_objectives_of_this_package(name: str) -> None:
    """With its own records; tests/test_outside.py tries every pair."""
    check_objective(ObjectiveConfig.from_tree({"name": name}))


class Hidden(ObjectiveConfig):
    """Every second token is masked and predicted; one promise is broken."""

    pattern: ClassVar[str] = "full"
    fault: str = ""

    def build(self) -> Objective:
        return HiddenLoss(self.fault)


class HiddenLoss(PerSource):
    def __init__(self, fault: str) -> None:
        self.fault, self.calls = fault, 0

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        B, N = segment.position.shape[:2]
        draws = rng.uniform(name, B, N)
        if self.fault == "global chance":
            draws = torch.rand(B, N)
        if self.fault == "row":
            draws = rng.uniform(name, 1, N) * torch.arange(1, B + 1).unsqueeze(1) % 1
        hidden = (draws < 0.5) & (torch.arange(N) > 0)
        weight = torch.ones(B, N) if self.fault == "padding" else segment.target_weight
        weight = weight * hidden
        inputs = replace(segment, masked=hidden)
        if self.fault == "leak":
            inputs = segment
        if self.fault == "masked":
            inputs = replace(segment, masked=hidden.float())
        if self.fault == "weight":
            weight = weight[:, :1]
        if self.fault == "negative":
            weight = -weight
        index = torch.arange(N).expand(B, N) + (self.fault == "index")
        score = Score(segment.space, name, segment.values, weight, index)
        return View((Stream("main", "main", (inputs,), readouts=(score,)),))

    def term_weights(self, views: Any) -> Mapping[str, TermWeight]:
        weights = super().term_weights(views)
        if self.fault == "terms":
            return {f"{name}s": weight for name, weight in weights.items()}
        if self.fault == "upwards":
            return {name: TermWeight(w.weight, -1.0) for name, w in weights.items()}
        return weights

    def loss(self, outputs: Any, views: Any) -> Any:
        self.calls += 1
        totals = dict(super().loss(outputs, views))
        scale = {
            "mean": 1 / views[0].size,
            "infinite": float("inf"),
            "state": 1 / self.calls,
        }.get(self.fault, 1.0)
        if self.fault == "vector":
            return {name: total.expand(2) for name, total in totals.items()}
        return {name: total * scale for name, total in totals.items()}


FAULTS = {
    "global chance": "all randomness must come from batch.rng",
    "masked": r"masked of segment 'bytes' is bool \[B,N\]",
    "weight": r"loss_weight of term 'source' is \[B,S\]",
    "negative": "is finite and not negative",
    "index": "index of term 'source' has the position of each target",
    "terms": r"loss has the terms of term_weights: \['source'\] and \['sources'\]",
    "vector": "loss of term 'source' is one number",
    "infinite": "loss of a model at initialisation is finite",
    "mean": "loss of a batch is the sum over its rows",
    "row": "views of a row do not depend on the other rows",
    "padding": "padding is no target and is not read",
    "leak": "the model reads the value that it is to predict",
    "upwards": "30 steps on one batch lower its loss",
}


def test_an_objective_without_a_fault_passes() -> None:
    check_objective(Hidden())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_promise_is_named(fault: str) -> None:
    with pytest.raises(BrokenPromiseError, match=FAULTS[fault]):
        check_objective(Hidden(fault=fault))


def test_state_that_no_checkpoint_has_is_named() -> None:
    trial = Trial.of({"source": source("bytes")}, Hidden(fault="state"))
    with pytest.raises(BrokenPromiseError, match="state of the objective or of a part"):
        check_resume(trial)


def test_an_objective_that_takes_nothing_is_named() -> None:
    seq2seq = ObjectiveConfig.from_tree({"name": "seq2seq", "source": "a", "target": "b"})
    with pytest.raises(BrokenPromiseError, match="give check_objective `sources` that it takes"):
        check_objective(seq2seq)


@pytest.mark.parametrize("name", ["seq2seq", "prefix_conditional"])
def test_objectives_of_pairs(name: str) -> None:
    tree = {"name": name, "source": "texts", "target": "pictures"}
    sources = {"texts": source("bytes"), "pictures": source("image")}
    check_objective(ObjectiveConfig.from_tree(tree), sources)


@pytest.mark.parametrize("name", ["infonce", "sigmoid"])
def test_objectives_whose_rows_depend_on_each_other(name: str) -> None:
    joint = JointConfig(embedding_dim=8, scale=10.0, bias=-1.0)
    heads = {"image_joint": (joint, "image"), "text_joint": (JointConfig(embedding_dim=8), "text")}
    sources = {"text": source("bytes"), "image": source("image")}
    check_objective(ObjectiveConfig.from_tree({"name": name}), sources, heads=heads)
