"""Residual updates: the formula of each, whatever memory they are made in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from broadbase.nn.block import (
    LayerScaleConfig,
    PostNormConfig,
    PreNormConfig,
    ResidualConfig,
    SandwichConfig,
)
from broadbase.nn.layer import LayerInputs, TokenWise
from broadbase.nn.norm import LayerNormConfig
from broadbase.nn.patterns import Mask


class OneMap(TokenWise):
    """A linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8, 8)

    def update(self, x: Tensor) -> Tensor:
        return self.map(x)


FORMULAS = {
    PreNormConfig: lambda m, x: x + m.branch.map(m.norm(x)),
    PostNormConfig: lambda m, x: m.norm(x + m.branch.map(x)),
    SandwichConfig: lambda m, x: x + m.after(m.branch.map(m.norm(x))),
    LayerScaleConfig: lambda m, x: x + m.gain * m.branch.map(m.norm(x)),
}


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "autocast"])
def test_a_residual_update_is_its_formula(kind: type[ResidualConfig], *, narrow: bool) -> None:
    """Value, type and gradients; the stream that comes in is left as it was."""
    torch.manual_seed(0)
    module = kind(norm=LayerNormConfig()).build(OneMap(), 8)
    stream = torch.randn(2, 3, 8)

    def output_and_gradients(update: object) -> tuple[Tensor, ...]:
        x = stream.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            y = update(x)  # type: ignore[operator]
        assert torch.equal(x, stream)
        return y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])

    expected = output_and_gradients(lambda x: FORMULAS[kind](module, x))
    inputs = LayerInputs(Mask(None))
    for one, other in zip(
        output_and_gradients(lambda x: module(x, inputs)[0]), expected, strict=True
    ):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
