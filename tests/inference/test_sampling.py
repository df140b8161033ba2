"""Sampling: the distribution that is drawn from, and which values top-k and top-p keep."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopKLogitsWarper, TopPLogitsWarper

from broadbase.core.errors import DataError
from broadbase.inference.autoregressive import LIKELIEST, SamplingConfig, draw, restrict


def test_values_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf, 0.5]).expand(4000, 5)
    config = SamplingConfig(temperature=0.7)
    chances = [config.generator(i) for i in range(len(logits))]
    counts = draw(logits, config, chances).bincount(minlength=5)
    expected = (logits[0] / 0.7).softmax(-1)
    deviation = (expected * (1 - expected) / len(logits)).sqrt()
    assert ((counts / len(logits) - expected).abs() <= 4 * deviation).all()
    assert counts[3] == 0


def test_a_row_is_drawn_as_alone() -> None:
    logits = torch.randn(6, 3, 40, generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(top_p=0.9)
    together = draw(logits, config, [config.generator(i) for i in range(6)])
    for i in range(6):
        assert torch.equal(draw(logits[i : i + 1], config, [config.generator(i)])[0], together[i])


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([3, 50, LIKELIEST, 3 * LIKELIEST]),
    spread=st.sampled_from([0.1, 1.0, 8.0]),
    top_p=st.floats(0.05, 0.999),
)
def test_top_p_keeps_what_transformers_keeps(
    seed: int, size: int, spread: float, top_p: float
) -> None:
    logits = spread * torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    ours = restrict(logits, SamplingConfig(top_p=top_p)).isfinite()
    reference = TopPLogitsWarper(top_p)(None, logits.double()).isfinite()
    differing = ours != reference  # where the sum reaches top_p to the last bit
    assert int(differing.sum()) <= 2
    assert ours.any(-1).all()


def test_top_k_keeps_what_transformers_keeps() -> None:
    logits = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    ours = restrict(logits, SamplingConfig(top_k=7)).isfinite()
    assert torch.equal(ours, TopKLogitsWarper(7)(None, logits).isfinite())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="not finite"):
        SamplingConfig().build()(torch.tensor([[0.0, bad]]))
