"""Prefix language modelling: a prefix seen in full, then causal (Raffel et al. 2020, 3.2).

Legend: B rows, N places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss


class PrefixConfig(ObjectiveConfig):
    """Next-place prediction after a prefix of a length drawn evenly for each document."""

    name: Literal["prefix"] = "prefix"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return Prefix(self)


class Prefix(ReadoutLoss):
    """Causal, but for order: all places of a prefix have the same, so they see each other."""

    def __init__(self, config: PrefixConfig) -> None:
        self.tower = config.tower

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, s, batch.rng) for name, s in batch.segments.items())

    def _view(self, name: str, segment: Segment, draws: KeyedRandom) -> View:
        order_BN, length_BN = _places(segment)
        B, N = order_BN.shape
        first_BN = (torch.arange(N) - order_BN).clamp(min=0)  # of each place's document
        draw_BN = draws.uniform(name, B, N).gather(1, first_BN)
        prefix_BN = 1 + (draw_BN * (length_BN - 1).clamp(min=1)).long()  # places, 1 to length - 1
        inside_BN = order_BN < prefix_BN
        assert segment.loss_weight is not None
        segment = replace(
            segment,
            order=order_BN.masked_fill(inside_BN, 0),
            document=torch.zeros_like(order_BN) if segment.document is None else segment.document,
            loss_weight=segment.loss_weight.masked_fill(inside_BN, 0),
        )
        seen, values, weight = next_token_targets(segment)
        read = Readout(segment.space, term=name, target=values, loss_weight=weight)
        return View((Stream("main", self.tower, (seen,), pattern="causal", readouts=(read,)),))


def _places(segment: Segment) -> tuple[Tensor, Tensor]:
    """Every place's number in its document, and how many places that has: [B,N] each."""
    B, N = segment.position.shape[:2]
    if segment.order is None or segment.document is None:
        return torch.arange(N).expand(B, N), torch.full((B, N), N)
    number_BN = segment.document + 1  # padding is 0
    count = torch.zeros(B, N + 1, dtype=torch.int64)
    count.scatter_add_(1, number_BN, torch.ones_like(number_BN))
    return segment.order, count.gather(1, number_BN)
