"""Attention: the maps of one input as one product, and cross-attention that reads once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.cache import LayerCache
from broadbase.nn.layer import Context, LayerInputs
from broadbase.nn.patterns import Mask
from broadbase.nn.softmax import PlainSoftmax


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


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_short_rows_are_multiplied_by_torch_and_the_setting_stays(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """oneDNN, which "medium" means on a CPU, takes several times as long for short rows."""
    used, fused = list[str](), F.scaled_dot_product_attention

    def spied(*given: torch.Tensor, **settings: object) -> torch.Tensor:
        used.append(torch.get_float32_matmul_precision())
        return fused(*given, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", spied)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        q, k, v = torch.randn(3, 5, 2, 7, 8)
        out = PlainSoftmax()(q, k, v, Mask(None), None)
        with pytest.raises(RuntimeError):
            PlainSoftmax()(q, k[:2], v, Mask(None), None)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    assert used == ["highest"] * 2
    expected = ((q.double() @ k.double().mT) / 8**0.5).softmax(-1) @ v.double()
    torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=1e-6)
