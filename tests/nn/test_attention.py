"""Attention: the maps of one input as one product, and cross-attention that reads once."""

from __future__ import annotations

import torch

from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.cache import LayerCache
from broadbase.nn.layer import Context, LayerInputs
from broadbase.nn.patterns import Mask


def test_another_stream_is_read_once() -> None:
    """Its keys and values are those of the first token; later ones do not look at it again."""
    torch.manual_seed(0)
    attention = GroupedQueryConfig(heads=2, kv_heads=2, head_dim=8).cross(16)
    x, stream, cache = torch.randn(3, 4, 16), torch.randn(3, 7, 16), LayerCache()
    nothing = torch.full_like(stream, torch.nan)

    def read(x: torch.Tensor, context: torch.Tensor, cache: LayerCache | None) -> torch.Tensor:
        inputs = LayerInputs(Mask(None), cache=cache, context=Context(context, Mask(None)))
        return attention(x, inputs)[0]

    together = read(x, stream, None)
    for i in range(4):
        alone = read(x[:, i : i + 1], nothing if i else stream, cache)
        assert torch.allclose(alone, together[:, i : i + 1], atol=1e-6)
