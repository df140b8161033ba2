"""Linear maps of one input as one product, and what must not be fused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from broadbase.core.errors import ConfigError
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.fused import FusedLinears
from broadbase.nn.layer import LayerInputs
from broadbase.nn.patterns import Mask


@pytest.mark.parametrize("biases", [(True, None), (False, True), (False, None)])
def test_maps_of_one_input_are_one_product(biases: tuple[bool, bool | None]) -> None:
    """Of 4 query heads and 2 of keys and values, with and without biases on each."""
    torch.manual_seed(0)
    config = GroupedQueryConfig(heads=4, kv_heads=2, head_dim=8, bias=biases[0], k_bias=biases[1])
    attention, inputs = config.build(24), LayerInputs(Mask(None))
    assert isinstance(attention, FusedLinears)
    x = torch.randn(2, 5, 24)
    parts, (apart, _) = attention.project(x), attention(x, inputs)
    assert [part.shape[-1] for part in parts] == [32, 16, 16]
    attention.fuse()
    attention.fuse()  # a second time changes nothing
    assert sum(isinstance(m, nn.Linear) for m in attention.modules()) == 2
    for fused, part in zip(attention.project(x), parts, strict=True):
        assert torch.allclose(fused, part, atol=1e-6)
    assert torch.allclose(attention(x, inputs)[0], apart, atol=1e-6)


class LowRank(nn.Linear):
    """W x + up(down(x)), as an adapter adds to a map."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x))


def test_a_map_that_is_more_than_linear_is_not_fused() -> None:
    """Fused, an adapter would be lost without a word."""
    attention = GroupedQueryConfig(heads=2, kv_heads=2, head_dim=8).build(16)
    assert isinstance(attention, FusedLinears)
    attention.q = LowRank(attention.q)
    with pytest.raises(ConfigError, match=r"q is a LowRank.*merge"):
        attention.fuse()
    assert attention.joint is None


def test_hooks_of_a_map_are_not_lost() -> None:
    attention = GroupedQueryConfig(heads=2, kv_heads=2, head_dim=8).build(16)
    assert isinstance(attention, FusedLinears)
    attention.v.register_forward_hook(lambda *given: given[-1] + 1)
    with pytest.raises(ConfigError, match="v has a hook"):
        attention.fuse()
