"""Recall: which places count, of ids and of vectors, in packed rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, positions
from broadbase.objectives.induction import recurs
from support.segments import images, packed


def row(text: str, document: list[int] | None = None) -> Segment:
    values = torch.tensor([[ord(letter) for letter in text]])
    place = positions((len(text),))[None]
    seen = None if document is None else torch.tensor([document])
    return Segment("bytes", values, place, seen, seen, loss_weight=torch.ones(1, len(text)))


def marked(segment: Segment) -> str:
    return "".join("x" if result else "." for result in recurs(segment)[0])


def test_a_place_counts_where_its_pair_was_before() -> None:
    assert marked(row("abcdabce")) == ".....xx."
    assert marked(row("aab")) == "..."
    assert marked(row("aaa")) == "..x"
    assert marked(row("abxxab", [0, 0, 0, 1, 1, 1])) == "......"
    assert marked(row("abab", [0, 0, 1, 1])) == "...."


def test_vectors_count_like_ids() -> None:
    ids = row("abcdabce")
    rng = torch.Generator().manual_seed(0)
    seen = torch.rand(256, 4, generator=rng)
    assert marked(replace(ids, values=seen[ids.values])) == ".....xx."
    assert recurs(images(4)).shape == (4, 5)


def test_it_is_causal_modelling_with_other_weights() -> None:
    segment = packed([[9, 3], [12]], 12)
    segment.values[0, 5:8] = segment.values[0, 1:4]
    batch = Batch(0, {"bytes": segment}, KeyedRandom(0, 0))
    reads = []
    for name, more in (("causal", {}), ("induction", {"other_loss_weight": 0.25})):
        objective = ObjectiveConfig.from_tree({"name": name, **more}).build()
        (view,) = objective.views(batch, {})
        reads += view.readouts
    plain, ours = reads
    assert torch.equal(plain.target, ours.target)
    again = torch.zeros(2, 11, dtype=torch.bool)
    again[0, 5:7] = True  # of three places the second and third
    assert torch.equal(ours.loss_weight, plain.loss_weight * torch.where(again, 1.0, 0.25))


def test_it_is_no_likelihood() -> None:
    assert ObjectiveConfig.from_tree({"name": "induction"}).likelihoods(["text"]) == {}
    with pytest.raises(ValueError, match="other_loss_weight"):
        ObjectiveConfig.from_tree({"name": "induction", "other_loss_weight": 0})
