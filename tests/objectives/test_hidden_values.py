"""What is hidden does not leak, for every objective with every modality it makes sense for."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View
from broadbase.evaluate.registry import without_targets
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from support.outside import MODALITIES, SINGLE, TOWERS, rows, settings

SEES = {"toy-copy", "autoencoder"}  # they tell what they see
HIDES = [name for name in SINGLE if name not in SEES and not name.startswith("distil")]


def changed(segment: Segment, place: int) -> Segment:
    """Another value at one place of every row, one that other places or rows have."""
    values = segment.values.clone()
    for row in values:
        other = (row[1:] != row[place]).reshape(len(row) - 1, -1).any(dim=1).nonzero()
        row[place] = row[1 + int(other[0])] if len(other) else row[place]
    return replace(segment, values=values)


def visible(a: View, b: View) -> torch.Tensor:
    """Rows [B] whose encoder, where there is one, reads something else."""
    differ = torch.zeros(a.size, dtype=torch.bool)
    for mine, theirs in zip(a.streams[:-1], b.streams[:-1], strict=True):
        for x, y in zip(mine.segments, theirs.segments, strict=True):
            if x.values is not None and y.values is not None:
                place = (
                    (x.values != y.values).flatten(2).any(dim=2)
                    if x.values.ndim > 2
                    else x.values != y.values
                )
                differ |= (place if x.masked is None else place & ~x.masked).any(dim=1)
    return differ


@pytest.mark.parametrize("objective", sorted(HIDES))
@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_a_hidden_value_changes_no_prediction_of_it(modality: str, objective: str) -> None:
    tree = {
        "modalities": {modality: settings(modality)},
        "heads": {"pixels": {"name": "regression", "channels": 4}},
        "towers": TOWERS,
        "tower_of": {"pixels": "decoder"},
        "connectors": [{"name": "linear", "source": "encoder", "target": "decoder"}],
    }
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    segment = rows(modality, config.modalities[modality], np.random.default_rng(0), 4)
    corruption: Any = config.modalities[modality].corruption()
    if "hide" in {field.name for field in fields(corruption)}:
        corruption = replace(corruption, hide=1.0)  # none swapped, none left as it is
    built = ObjectiveConfig.named(objective)().build()

    def views(given: Segment) -> Any:
        return built.views(Batch(0, {"s": given}, KeyedRandom(0, 0)), {modality: corruption})

    try:
        before = views(segment)
    except ConfigError:
        pytest.skip("no pair: test_every_pairing_learns holds what is said")
    hidden, seen = 0, False
    places = segment.position.shape[1]
    for place in range(1, places, 1 if places < 20 else 3):
        for a, b in zip(before, views(changed(segment, place)), strict=True):
            (x,), (y,) = a.readouts, b.readouts
            target = (
                (x.target != y.target).flatten(2).any(2)
                if x.target.ndim > 2
                else x.target != y.target
            )
            target &= (x.loss_weight > 0) & ~visible(a, b).unsqueeze(1)
            with torch.no_grad():
                p, q = (model(without_targets(view)).predictions["p"] for view in (a, b))
            torch.testing.assert_close(p[target], q[target], rtol=0, atol=1e-5)
            hidden += int(target.sum())
            seen |= bool((p - q).abs().max() > 1e-4)
    assert hidden > 0
    assert seen, "a change that nothing notices shows nothing"
