"""Induction: causal modelling that gives most weight to what earlier tokens determine.

Legend: B rows, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import PerSource


class InductionConfig(ObjectiveConfig):
    """Next-token prediction that emphasises repeated pairs of tokens.

    A target counts fully where it follows the same token as once before in its document: what an
    induction head predicts (Olsson et al. 2022, 2). Where one token in thirty is of that kind,
    plain causal modelling takes very long to learn it.
    """

    name: Literal["induction"] = "induction"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the tokens."""
    other_loss_weight: Annotated[float, Field(gt=0, le=1)] = 0.03
    """The loss weight of every target that repeats no earlier pair."""

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        """Return the objective."""
        return Induction(self.tower, self.other_loss_weight)


@dataclass(frozen=True)
class Induction(PerSource):
    """One causal stream for each source, as in `causal`, with other loss weights."""

    tower: str
    other_loss_weight: float

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return one causal stream."""
        factor_BN = torch.where(recurs(segment), 1.0, self.other_loss_weight)
        inputs, target, weight = next_token_targets(
            replace(segment, loss_weight=segment.target_weight * factor_BN)
        )
        readout = Score(segment.space, term=name, target=target, loss_weight=weight)
        return View((Stream("main", self.tower, (inputs,), pattern="causal", readouts=(readout,)),))


def recurs(segment: Segment) -> Tensor:
    """Return whether a token and the one before it repeat an earlier pair of their document.

    [B,N] bool.
    """
    values = segment.values
    B, N = values.shape[:2]
    flat = values.flatten(0, 1)
    _, ids = torch.unique(flat, dim=0, return_inverse=True)
    ids_BN = ids.view(B, N)
    document_BN = torch.zeros_like(ids_BN) if segment.document is None else segment.document
    same_BNN = (ids_BN[:, :, None] == ids_BN[:, None]) & (
        document_BN[:, :, None] == document_BN[:, None]
    )
    pair_BNN = same_BNN[:, 1:, 1:] & same_BNN[:, :-1, :-1]
    recurs_BN = torch.zeros(B, N, dtype=torch.bool, device=ids_BN.device)
    recurs_BN[:, 1:] = pair_BNN.tril(-1).any(dim=-1)
    return recurs_BN
