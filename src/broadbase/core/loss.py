"""Losses as named sums: the one form that adds up the same however a batch is cut.

A mean of means weighs a short micro-batch like a long one. A loss therefore is a sum for each named
term; the weight of a term follows from the views, before any forward. Sums and weights add over
micro-batches and ranks, and the loop divides once: loss = sum over terms of scale * total / weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Loss = Mapping[str, Tensor]  # term -> [] total, nats
AuxLosses = Mapping[str, Tensor]  # name -> [B] or [B,S]: losses that a layer adds to the loss


@dataclass(frozen=True)
class TermWeight:
    """What divides and what scales a term."""

    weight: float  # number of scored tokens (or pairs), as weighted
    scale: float = 1.0  # the term's part in the sum of all terms


def add_losses(one: AuxLosses, other: AuxLosses) -> AuxLosses:
    """Return the auxiliary losses of two layers: those of one name are added."""
    return {
        **one,
        **{name: one[name] + loss if name in one else loss for name, loss in other.items()},
    }


def combine(loss: Loss, shares: Mapping[str, TermWeight]) -> Tensor:
    """Sum the terms to differentiate: each total over its global weight, scaled."""
    parts = [loss[name] * (shares[name].scale / max(shares[name].weight, 1e-12)) for name in loss]
    return sum(parts[1:], start=parts[0])
