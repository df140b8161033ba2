"""Damaged regions: what the encoder reads, what the decoder tells, and what is learned of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View, positions
from broadbase.modalities.noise import Hide

ROWS, SIDE = 5, 6


def pictures() -> Segment:
    """Every patch is told apart by its one channel; the start is -1."""
    n = SIDE * SIDE
    values = torch.cat([torch.tensor([-1.0]), torch.arange(n) / n]).expand(ROWS, -1).unsqueeze(-1)
    place = torch.cat([torch.zeros(1, 3, dtype=torch.int64), 1 + positions((SIDE, SIDE))])
    weight = torch.ones(ROWS, n + 1)
    weight[:, 0] = 0
    return Segment("image", values, place.expand(ROWS, -1, -1), loss_weight=weight)


def view(**fields: Any) -> View:
    tree = {"name": "block_denoising", "masks": {"name": "blocks", "min_size": 4}, **fields}
    objective = ObjectiveConfig.from_tree(tree).build()
    (made,) = objective.views(Batch(0, {"s": pictures()}, KeyedRandom(0, 0)), {"image": Hide()})
    return made


def test_blocks_are_hidden_from_the_encoder_and_the_complete_is_reported() -> None:
    made = view(mask_ratio=0.4)
    (given,), (read,) = made.streams[0].segments, made.readouts
    assert given.masked is not None
    assert (given.masked.sum(dim=1) == round(0.4 * SIDE * SIDE)).all()
    assert not given.masked[:, 0].any()
    plane = given.masked[:, 1:].view(ROWS, SIDE, SIDE).float()
    next_to = (plane[:, :, 1:] * plane[:, :, :-1]).sum() / plane.sum()
    assert next_to > 0.55  # single places, hidden apart, have 0.4 * 5 / 6
    assert torch.equal(read.target[..., 0], pictures().values[:, 1:, 0])  # type: ignore[index]
    assert (read.loss_weight == 1).all()
    assert made.streams[1].context == "encoder"


def test_the_regions_alone_can_be_reported() -> None:
    made = view(target_all=False)
    (given,), (read,) = made.streams[0].segments, made.readouts
    assert given.masked is not None
    assert torch.equal(read.loss_weight > 0, given.masked[:, 1:])


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_damage_by_other_values_of_the_row(share: float) -> None:
    (given,) = view(damage="replace", mask_ratio=share).streams[0].segments
    (same,) = view(mask_ratio=share).streams[0].segments  # the same places, hidden
    assert given.masked is None
    assert same.masked is not None
    moved = given.values[..., 0] != pictures().values[..., 0]  # type: ignore[index]
    assert not moved[~same.masked].any()
    assert moved.sum() > 0.8 * same.masked.sum()  # some are replaced by themselves
    assert set(given.values.flatten().tolist()) <= set(pictures().values.flatten().tolist())  # type: ignore[union-attr]
