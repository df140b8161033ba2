"""The gated product keeps less and says the same."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from broadbase.nn.feedforward import ACTIVATIONS, Activation, gated


@pytest.mark.parametrize("name", get_args(Activation))
def test_its_gradient_is_that_of_the_plain_product(name: Activation) -> None:
    rng = torch.Generator().manual_seed(0)
    gate, up, told = (torch.randn(3, 7, generator=rng, dtype=torch.float64) for _ in range(3))
    leaves = [x.requires_grad_() for x in (gate, up)]
    activation = ACTIVATIONS[name]
    ours = torch.autograd.grad(gated(*leaves, activation), leaves, told)
    theirs = torch.autograd.grad(activation(gate) * up, leaves, told)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_the_activation_is_not_kept() -> None:
    gate, up = (torch.randn(4, 8, requires_grad=True) for _ in range(2))
    kept: list[int] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        kept.append(x.data_ptr())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        gated(gate, up, ACTIVATIONS["silu"])
    assert kept == [gate.data_ptr(), up.data_ptr()]
