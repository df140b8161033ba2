"""FLOP of pretraining: 6 for each weight of the layers and token."""

from __future__ import annotations

import pytest

from broadbase.demo import flop
from support.bases import text_base
from support.models import TOWER


def test_a_training_counts_weights_of_layers_and_tokens() -> None:
    base = text_base()
    every = sum(p.numel() for p in base.model.parameters())
    assert TOWER["width"] * TOWER["width"] < flop.layers(base) < every  # type: ignore[operator]
    assert flop.trained(base, 10) == 60 * flop.layers(base)


def test_the_published_base_costs_what_its_papers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 6 layers of width 384 have 12 * 384**2 weights each; BERT-Base 85 M in all."""
    monkeypatch.setattr(flop, "layers", lambda _: 6 * 12 * 384**2)
    stages = flop.minilm(text_base())
    assert stages["contrast"] == pytest.approx(6 * 10.6e6 * 2.62e10, rel=0.01)  # 1.7e18
    student, teacher = 6 * 21.2e6, 2 * 85e6
    assert stages["distillation"] == pytest.approx((student + teacher) * 2.1e11, rel=0.01)  # 6e19
