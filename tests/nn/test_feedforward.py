"""The gated product keeps less and says the same."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from broadbase.nn.feedforward import ACTIVATIONS, Activation, GatedConfig, gated


@pytest.mark.parametrize("name", get_args(Activation))
def test_its_gradient_is_that_of_the_plain_product(name: Activation) -> None:
    rng = torch.Generator().manual_seed(0)
    gate, up, grad_output = (
        torch.randn(3, 7, generator=rng, dtype=torch.float64) for _ in range(3)
    )
    leaves = [x.requires_grad_() for x in (gate, up)]
    activation = ACTIVATIONS[name]
    actual = torch.autograd.grad(gated(*leaves, activation), leaves, grad_output)
    expected = torch.autograd.grad(activation(gate) * up, leaves, grad_output)
    for a, b in zip(actual, expected, strict=True):
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


@pytest.mark.parametrize("bias", [False, True])
def test_the_map_after_it_computes_the_product_again(bias: bool) -> None:
    """Two of the three hidden arrays are kept, and the gradients are the plain ones."""
    torch.manual_seed(0)
    unit = GatedConfig(hidden_width=2048, bias=bias).build(4).double()
    x = torch.randn(2, 32, 4, dtype=torch.float64, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        output = unit.update(x)
    assert watched.profiler is not None
    events = watched.profiler.kineto_results.events()
    kept = sum(event.nbytes() for event in events if event.name() == "[memory]")
    hidden = 2 * 32 * 2048 * 8
    assert 2 * hidden <= kept < 2.2 * hidden
    leaves = [x, *unit.parameters()]
    actual = torch.autograd.grad(output.square().sum(), leaves)
    plain = unit.down(F.silu(unit.gate(x)) * unit.up(x))
    expected = torch.autograd.grad(plain.square().sum(), leaves)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)
