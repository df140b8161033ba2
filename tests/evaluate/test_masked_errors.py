"""Masked errors: a filler sees what the encoder sees, record by record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Segment, View
from broadbase.evaluate.masked_errors import masked_records, normalise, require_raw_values
from broadbase.model.model import ModelConfig
from broadbase.objectives.mae import MaskedAutoencoderConfig
from support.models import TOWER

START = np.full(2, -1.0, np.float32)


def two_sounds() -> Segment:
    """A row of two documents and padding; the second continues a sound, without a start."""
    values = torch.arange(24.0).reshape(1, 12, 2) / 24
    values[0, 0] = -1
    position = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0])
    document = torch.tensor([[0] * 5 + [1] * 5 + [-1] * 2])
    weight = torch.tensor([[0.0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0]])
    place = position[None, :, None].expand(1, -1, 3)
    return Segment("audio", values, place, document=document, loss_weight=weight)


def view_of(segment: Segment) -> View:
    config = MaskedAutoencoderConfig(target="pixels")
    (view,) = config.build().views(Batch(0, {"s": segment}, KeyedRandom(1, 0)), {})
    return view


def test_records_are_apart_and_neither_start_nor_padding_is_visible() -> None:
    segment = two_sounds()
    view = view_of(segment)
    records = list(masked_records(view, START))
    assert [(row, number) for row, number, _, _ in records] == [(0, 0), (0, 1)]
    (read,) = view.readouts
    for _, number, targets, record in records:
        first = 5 * number
        document = segment.values[0, first : first + 5].numpy()
        at = record.visible_at[:, 0] + 1
        np.testing.assert_array_equal(record.visible, document[at])
        assert (0 in at) == (number == 1)  # the start is not visible, a continued frame is
        masked = record.masked_at[:, 0] + 1
        np.testing.assert_array_equal(read.target[0].numpy()[targets], document[masked])
        assert {*at, *masked} == set(range(1 - number, 5))


def test_a_masked_value_reaches_no_filler() -> None:
    """Other values at the masked tokens change no record."""
    segment = two_sounds()
    records = list(masked_records(view_of(segment), START))
    values = segment.values.clone()
    for _, number, _, record in records:
        values[0, 5 * number + record.masked_at[:, 0] + 1] += 1
    for before, after in zip(
        records, masked_records(view_of(replace(segment, values=values)), START), strict=True
    ):
        np.testing.assert_array_equal(before[3].visible, after[3].visible)


def test_normalised_patches_have_mean_0_and_variance_1() -> None:
    scaled = normalise(np.random.default_rng(0).normal(5, 3, (4, 48)))
    np.testing.assert_allclose(scaled.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.var(axis=1, ddof=1), 1, atol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_normalised_predictions_restore_no_record(normalised: bool) -> None:
    pixels = {"name": "regression", "channels": 4, "normalise": normalised}
    tree = {"modalities": {}, "heads": {"pixels": pixels}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    if not normalised:
        require_raw_values(config, "pixels")
        return
    with pytest.raises(ConfigError, match=r"--set model\.heads\.pixels\.normalise=false"):
        require_raw_values(config, "pixels")
