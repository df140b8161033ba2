"""Attention by blocks: PyTorch's own, with its gradient, for every mask and odd sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from broadbase.nn import tiled
from broadbase.nn.patterns import Mask
from broadbase.nn.softmax import PlainSoftmaxConfig

B, H, T, E = 5, 3, 21, 4


def masks() -> dict[str, Mask]:
    rng = torch.Generator().manual_seed(0)
    each = torch.rand(B, 1, T, T, generator=rng) > 0.5
    shared = torch.rand(1, H, T, T, generator=rng) > 0.5
    for table in (each, shared):
        table |= torch.eye(T, dtype=torch.bool)
    each[0, :, 2] = False  # padding that sees nothing
    return {
        "none": Mask(None),
        "causal": Mask(None, causal=True),
        "each": Mask(each),
        "shared": Mask(shared),
    }


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8 queries, the last of 5; pieces of two rows, the last of one."""
    monkeypatch.setattr(tiled, "QUERIES", 8)
    monkeypatch.setattr(tiled, "LOGITS", 2 * H * 8 * T)


@pytest.mark.parametrize("name", list(masks()))
@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_is_pytorchs(name: str, scale: float | None) -> None:
    mask, rng = masks()[name], torch.Generator().manual_seed(1)
    given = [torch.randn(B, T, H, E, generator=rng, dtype=torch.float64) for _ in range(4)]
    grad_output = given.pop().transpose(1, 2)
    results = []
    for way in (tiled.attention, F.scaled_dot_product_attention):
        q, k, v = (x.clone().requires_grad_().transpose(1, 2) for x in given)
        if way is tiled.attention:
            out = tiled.attention(q, k, v, mask, scale)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask.table, 0.0, mask.causal, scale=scale)
        results.append([out, *torch.autograd.grad(out, (q, k, v), grad_output)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_keys_may_be_those_of_another_stream() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, H, n, E, dtype=torch.float64) for n in (T, 30, 30))
    table = torch.rand(2, 1, T, 30) > 0.2
    table[1, :, 3] = False  # a padded query, which sees nothing
    actual = tiled.attention(q, k, v, Mask(table), None)
    torch.testing.assert_close(actual, F.scaled_dot_product_attention(q, k, v, table))


def test_it_is_used_in_training_where_onednn_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    monkeypatch.setattr(tiled, "attention", lambda q, *_: used.append(True) or q)
    softmax, before = PlainSoftmaxConfig().build(H), torch.get_float32_matmul_precision()
    q = torch.randn(2, H, T, E, requires_grad=True)
    cases = {
        "medium": (q, q, Mask(None)),
        "highest": (q, q, Mask(None)),
        "no gradient": (q.detach(), q, Mask(None)),
        "fewer keys' heads": (q, q[:, :1], Mask(None)),
        "a bias": (q, q, Mask(torch.zeros(1, H, T, T))),
    }
    used_at = {}
    for name, (query, key, mask) in cases.items():
        torch.set_float32_matmul_precision("highest" if name == "highest" else "medium")
        used.clear()
        softmax(query, key, key, mask, None)
        used_at[name] = bool(used)
    torch.set_float32_matmul_precision(before)
    assert [name for name, so in used_at.items() if so] == ["medium"]
