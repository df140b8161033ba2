"""Prefix language modelling: full attention in a prefix, then causal (Raffel et al. 2020, 3.2).

Legend: B rows, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import PerSource


class PrefixConfig(ObjectiveConfig):
    """Next-token prediction after a prefix of a length drawn uniformly for each document."""

    name: Literal["prefix"] = "prefix"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the tokens."""

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        """Return the objective."""
        return Prefix(self.tower)


@dataclass(frozen=True)
class Prefix(PerSource):
    """Causal modelling in which all tokens of a prefix have one order, so they see each other."""

    tower: str

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return one stream; tokens of the prefix are no targets."""
        order_BN, length_BN = _order_and_length(segment)
        B, N = order_BN.shape
        first_BN = (torch.arange(N) - order_BN).clamp(min=0)  # of each token's document
        draw_BN = rng.uniform(name, B, N).gather(1, first_BN)
        prefix_BN = 1 + (draw_BN * (length_BN - 1).clamp(min=1)).long()  # tokens, 1 to length - 1
        inside_BN = order_BN < prefix_BN
        segment = replace(
            segment,
            order=order_BN.masked_fill(inside_BN, 0),
            document=torch.zeros_like(order_BN) if segment.document is None else segment.document,
            loss_weight=segment.target_weight.masked_fill(inside_BN, 0),
        )
        inputs, target, weight = next_token_targets(segment)
        readout = Score(segment.space, term=name, target=target, loss_weight=weight)
        return View((Stream("main", self.tower, (inputs,), pattern="causal", readouts=(readout,)),))


def _order_and_length(segment: Segment) -> tuple[Tensor, Tensor]:
    """Return every token's number in its document, and that document's length: [B,N] each."""
    B, N = segment.position.shape[:2]
    if segment.order is None or segment.document is None:
        return torch.arange(N).expand(B, N), torch.full((B, N), N)
    number_BN = segment.document + 1  # padding is 0
    count = torch.zeros(B, N + 1, dtype=torch.int64)
    count.scatter_add_(1, number_BN, torch.ones_like(number_BN))
    return segment.order, count.gather(1, number_BN)
