"""Cross-entropy that touches the logits as seldom as it can, and never keeps too many of them.

On CPUs PyTorch's writes three arrays of the logits' size (log-probabilities, a zeroed gradient,
their difference); these write the probabilities and turn them into the gradient in place.

Legend: M predictions, C of them in a chunk, D width, V categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_LOGITS = 2**24  # 64 MiB in fp32; more are computed again rather than kept
CHUNK = 2**22  # logits of a chunk: 16 MiB stay in the cache from product to product


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] and log-sum-exp(logits), one number of each per prediction."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        """Return both numbers [M] of logits [M,V] and targets [M]."""
        index_M1 = target_M.unsqueeze(-1)
        probability_MV = logits_MV.softmax(dim=-1)
        largest_M1, where_M1 = logits_MV.max(dim=-1, keepdim=True)
        # log-sum-exp by the likeliest category: its probability is at least 1 / V, so log is exact
        total_M1 = largest_M1 - probability_MV.gather(-1, where_M1).log()
        ctx.save_for_backward(probability_MV, index_M1)
        return (total_M1 - logits_MV.gather(-1, index_M1)).squeeze(-1), total_M1.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nll_M: Tensor, grad_total_M: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the logits [M,V]."""
        probability_MV, index_M1 = ctx.saved_tensors
        return _gradient(probability_MV, index_M1, grad_nll_M, grad_total_M), None


class LinearCrossEntropy(torch.autograd.Function):
    """CrossEntropy of x W^T + b by chunks of predictions, whose logits the backward computes again.

    This is Cut Your Losses (Wijmans et al. 2024) without its filter: the gradient is exact.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return both numbers [M] of x [M,D] and targets [M]."""
        kind = _wide(x_MD)
        nll_M, total_M = (x_MD.new_empty(len(x_MD), dtype=kind) for _ in range(2))
        for part in _chunks(x_MD, weight_VD):
            logits_CV = F.linear(x_MD[part], weight_VD, bias_V).to(kind)
            total_M[part] = logits_CV.logsumexp(dim=-1)
            nll_M[part] = -logits_CV.gather(-1, target_M[part, None]).squeeze(-1)
        ctx.save_for_backward(x_MD, weight_VD, bias_V, target_M, total_M)
        return nll_M.add_(total_M), total_M

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_nll_M: Tensor, grad_total_M: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Return the gradients of x, the weight and the bias."""
        x_MD, weight_VD, bias_V, target_M, total_M = ctx.saved_tensors
        kind = _wide(x_MD)
        grad_x_MD = torch.empty_like(x_MD)
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=kind)
        grad_bias_V = None if bias_V is None else torch.zeros_like(bias_V, dtype=kind)
        for part in _chunks(x_MD, weight_VD):
            logits_CV = F.linear(x_MD[part], weight_VD, bias_V).to(kind)
            probability_CV = logits_CV.sub_(total_M[part, None]).exp_()
            wide_CV = _gradient(
                probability_CV, target_M[part, None], grad_nll_M[part], grad_total_M[part]
            )
            grad_logits_CV = wide_CV.to(x_MD.dtype)
            torch.mm(grad_logits_CV, weight_VD, out=grad_x_MD[part])
            grad_weight_VD += grad_logits_CV.T @ x_MD[part]
            if grad_bias_V is not None:
                grad_bias_V += wide_CV.sum(dim=0)
        grad_bias_V = (
            None if bias_V is None or grad_bias_V is None else grad_bias_V.to(bias_V.dtype)
        )
        return grad_x_MD, grad_weight_VD.to(weight_VD.dtype), grad_bias_V, None


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of target [...] under logits [...,V], in nats and fp32 or better.

    The gradient can be taken once: it is written over the probabilities that it is made of.
    """
    return cross_entropy_and_total(logits, target)[0]


def cross_entropy_and_total(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return `cross_entropy` and the log-sum-exp of the logits, [...] each."""
    wide = logits.flatten(0, -2)
    nll, total = CrossEntropy.apply(wide.to(_wide(wide)), target.flatten())  # type: ignore[no-untyped-call]
    return nll.view(target.shape), total.view(target.shape)


def linear_cross_entropy(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Return `cross_entropy_and_total` of logits x W^T + b.

    x is [...,D], weight [V,D], bias [V] and target [...].
    """
    x_MD, kind = x.flatten(0, -2), x.dtype
    if len(x_MD) * len(weight) <= MAX_LOGITS:
        return cross_entropy_and_total(F.linear(x, weight, bias), target)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    cast = (x_MD.to(kind), weight.to(kind), None if bias is None else bias.to(kind))
    nll, total = LinearCrossEntropy.apply(*cast, target.flatten())  # type: ignore[no-untyped-call]
    return nll.view(target.shape), total.view(target.shape)


def _gradient(
    probability_MV: Tensor, index_M1: Tensor, grad_nll_M: Tensor, grad_total_M: Tensor
) -> Tensor:
    """Return the gradient of the logits [M,V], written over their probabilities."""
    probability_MV.mul_((grad_nll_M + grad_total_M).unsqueeze(-1))
    return probability_MV.scatter_add_(-1, index_M1, -grad_nll_M.unsqueeze(-1))


def _chunks(x_MD: Tensor, weight_VD: Tensor) -> Iterator[slice]:
    """Return slices of predictions with at most CHUNK logits, or one prediction each."""
    size = max(1, CHUNK // len(weight_VD))
    return (slice(start, start + size) for start in range(0, len(x_MD), size))


def _wide(x: Tensor) -> torch.dtype:
    """Return fp32, or the type of x where it is better."""
    return x.dtype if x.element_size() >= 4 else torch.float32
