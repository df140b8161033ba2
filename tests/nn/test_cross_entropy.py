"""Cross-entropy by chunks: the numbers and the gradient of the plain one, for any upstream."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from broadbase.nn import cross_entropy as module
from broadbase.nn.cross_entropy import linear_cross_entropy
from broadbase.nn.spaces.discrete import DiscreteConfig


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product is large, and a chunk holds three predictions of 11 categories."""
    monkeypatch.setattr(module, "MAX_LOGITS", 0)
    monkeypatch.setattr(module, "CHUNK", 35)


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(x, weight, bias)
    return F.cross_entropy(logits.mT, target, reduction="none"), logits.logsumexp(dim=-1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_plain_one_with_any_weights_of_tokens_and_a_z_loss(
    biased: bool,
) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=rng) for s in ((2, 5, 4), (11, 4), (11,)))
    target = torch.randint(11, (2, 5), generator=rng)
    token_weight, z = torch.rand(2, 5, generator=rng), 0.3
    token_weight[0, 1] = 0
    results = []
    for method in (linear_cross_entropy, plain):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        nll, total = method(leaves[0], leaves[1], leaves[2] if biased else None, target)
        ((nll + z * total.square()) * token_weight).sum().backward()
        grads = [leaf.grad for leaf in leaves[: 2 + biased]]
        results.append([nll.detach(), total.detach(), *grads])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small")
def test_its_gradient_is_that_of_its_numbers() -> None:
    rng = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(size, generator=rng, dtype=torch.float64).requires_grad_()
        for size in ((7, 4), (11, 4), (11,))
    ]
    target = torch.randint(11, (7,), generator=rng)
    assert torch.autograd.gradcheck(lambda *given: linear_cross_entropy(*given, target), inputs)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("tied", [True, False])
def test_a_space_scores_by_chunks_as_it_predicts(tied: bool) -> None:
    torch.manual_seed(0)
    space = DiscreteConfig(vocab_size=11, tie_embeddings=tied, bias=True, z_loss_coef=1e-2).build(4)
    x, target = torch.randn(2, 5, 4), torch.randint(11, (2, 5))
    results = []
    for score in (space.score_with_aux, lambda x, t: plain(x, space._weight, space.bias, t)):
        space.zero_grad()
        score(x, target)[0].sum().backward()
        results.append({name: p.grad for name, p in space.named_parameters()})
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(
        space.score_with_aux(x, target)[1]["z"], space.predict(x).logsumexp(dim=-1).square()
    )


@pytest.mark.usefixtures("small")
def test_under_autocast_products_are_bf16_and_sums_fp32() -> None:
    rng = torch.Generator().manual_seed(2)
    x, weight = torch.randn(30, 16, generator=rng), torch.randn(11, 16, generator=rng)
    target = torch.randint(11, (30,), generator=rng)
    results = []
    for enabled in (True, False):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            nll, _ = linear_cross_entropy(*leaves, None, target)
        assert nll.dtype == torch.float32
        nll.sum().backward()
        results.append([nll.detach(), *(leaf.grad for leaf in leaves)])
        assert all(leaf.grad.dtype == torch.float32 for leaf in leaves)
    assert not torch.equal(results[0][0], results[1][0])
    for low, full in zip(*results, strict=True):
        assert (low - full).norm() < 0.02 * full.norm()


def test_the_logits_are_never_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2**18)
    x = torch.randn(2**15, 8, requires_grad=True)
    weight = torch.randn(2**10, 8, requires_grad=True)
    assert len(x) * len(weight) > module.MAX_LOGITS
    target = torch.randint(len(weight), (len(x),))
    with torch.profiler.profile(profile_memory=True) as seen:
        linear_cross_entropy(x, weight, None, target)[0].sum().backward()
    largest = max(event.self_cpu_memory_usage for event in seen.events())
    assert largest <= 4 * max(module.CHUNK, x.numel(), len(x) * 2) * 1.01
