"""Cross-entropy that touches the logits as seldom as it can.

On CPUs the usual one writes three arrays of the logits' size (log-probabilities, a zeroed gradient,
their difference); this one writes the probabilities and turns them into the gradient in place.

Legend: M predictions, V categories.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target], and log-sum-exp(logits): one number each a prediction."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        index_M1 = target_M.unsqueeze(-1)
        probability_MV = logits_MV.softmax(dim=-1)
        largest_M1, where_M1 = logits_MV.max(dim=-1, keepdim=True)
        # log-sum-exp by the likeliest category: its probability is at least 1 / V, so log is exact
        total_M1 = largest_M1 - probability_MV.gather(-1, where_M1).log()
        ctx.save_for_backward(probability_MV, index_M1)
        return (total_M1 - logits_MV.gather(-1, index_M1)).squeeze(-1), total_M1.squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        probability_MV, index_M1 = ctx.saved_tensors
        told_M, total_M = grads
        probability_MV.mul_((told_M + total_M).unsqueeze(-1))
        return probability_MV.scatter_add_(-1, index_M1, -told_M.unsqueeze(-1)), None


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood in nats, fp32 or better, of target [...] under logits [...,V].

    The gradient can be taken once: the probabilities it is made of are used up.
    """
    return cross_entropy_and_total(logits, target)[0]


def cross_entropy_and_total(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and the log-sum-exp of the logits: [...] each."""
    wide = logits.flatten(0, -2)
    wide = wide.float() if wide.element_size() < 4 else wide
    nll, total = CrossEntropy.apply(wide, target.flatten())  # type: ignore[no-untyped-call]
    return nll.view(target.shape), total.view(target.shape)
