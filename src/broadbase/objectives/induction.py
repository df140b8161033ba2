"""Recall: causal modelling that counts most what can be told by looking back.

Legend: B rows, N places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss


class InductionConfig(ObjectiveConfig):
    """Next-place prediction where a value comes after the same value as once before in its
    document: what an induction head tells (Olsson et al. 2022, 2). All other places count `others`.

    Where one place in thirty is of that kind, plain causal modelling takes very long to find it.
    """

    name: Literal["induction"] = "induction"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    other_loss_weight: Annotated[float, Field(gt=0, le=1)] = 0.03

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return Induction(self)


class Induction(ReadoutLoss):
    """One causal stream a source, as `causal` has it, with other weights."""

    def __init__(self, config: InductionConfig) -> None:
        self.tower, self.others = config.tower, config.other_loss_weight

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, segment) for name, segment in batch.segments.items())

    def _view(self, name: str, segment: Segment) -> View:
        assert segment.loss_weight is not None
        share_BN = torch.where(recurs(segment), 1.0, self.others)
        seen, values, weight = next_token_targets(
            replace(segment, loss_weight=segment.loss_weight * share_BN)
        )
        read = Readout(segment.space, term=name, target=values, loss_weight=weight)
        return View((Stream("main", self.tower, (seen,), pattern="causal", readouts=(read,)),))


def recurs(segment: Segment) -> Tensor:
    """Whether a place and the one before it hold what two such places held earlier in the
    document: [B,N] bool."""
    values = segment.values
    assert values is not None
    B, N = values.shape[:2]
    flat = values.flatten(0, 1)
    _, ids = torch.unique(flat, dim=0, return_inverse=True)
    ids_BN = ids.view(B, N)
    document_BN = torch.zeros_like(ids_BN) if segment.document is None else segment.document
    same_BNN = (ids_BN[:, :, None] == ids_BN[:, None]) & (
        document_BN[:, :, None] == document_BN[:, None]
    )
    pair_BNN = same_BNN[:, 1:, 1:] & same_BNN[:, :-1, :-1]
    found_BN = torch.zeros(B, N, dtype=torch.bool, device=ids_BN.device)
    found_BN[:, 1:] = pair_BNN.tril(-1).any(dim=-1)
    return found_BN
