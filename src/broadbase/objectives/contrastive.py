"""Contrastive: each half of a pair is matched with the other among all of a batch.

Row i of one source and row i of the other are a pair; each row is pooled by the tower of its source
and projected by a joint head. Vectors of all ranks are gathered with gradient.

Legend: B pairs of this rank, A pairs of all ranks, K dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Predict, Stream, View
from broadbase.objectives.documents import paired_with

TERM = "pairs"


class Side(Config):
    """One half of the pairs."""

    source: str
    """The source of the rows, paired with that of the other side."""
    tower: TowerName
    """The tower that reads them."""
    joint: str
    """The joint head that projects the pooled rows."""


class PairsConfig(ObjectiveConfig):
    """What both losses have in common; not a choice by itself."""

    first: Side = Side(source="image", tower="image", joint="image_joint")
    """The first half of every pair."""
    second: Side = Side(source="text", tower="text", joint="text_joint")
    """The second half of every pair."""

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that both sources are there and paired; ValueError otherwise."""
        paired_with(self.name, sources, self.first.source, self.second.source)


class InfoNCEConfig(PairsConfig):
    """The softmax loss of CLIP."""

    name: Literal["infonce"] = "infonce"

    def build(self) -> Objective:
        """Return the objective."""
        return InfoNCE(self)


class SigmoidConfig(PairsConfig):
    """The sigmoid loss of SigLIP."""

    name: Literal["sigmoid"] = "sigmoid"

    def build(self) -> Objective:
        """Return the objective."""
        return Sigmoid(self)


@dataclass(frozen=True)
class Pairs(ABC):
    """Two streams in one view, each with one pooled readout."""

    batch_coupled: ClassVar[bool] = True
    config: PairsConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return one view of both halves; none if the batch lacks one of the two sources."""
        if not {side.source for side in self._sides()} <= batch.segments.keys():
            return ()
        streams = tuple(self._stream(side, batch) for side in self._sides())
        return (View(streams, ranks=batch.rng.stride),)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the number of pairs."""
        return {TERM: TermWeight(float(sum(view.size for view in views)))} if views else {}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the sum over this rank's pairs, each compared with those of all ranks."""
        if not outputs:
            return {}
        ((output,), (view,)) = outputs, views
        first_BK, second_BK = (output.predictions[s.source][:, 0] for s in self._sides())
        if view.ranks == 1:
            return {TERM: self.total(first_BK, second_BK, first_BK, second_BK, 0)}
        rank = dist.get_rank()
        return {TERM: self.total(first_BK, second_BK, _all(first_BK), _all(second_BK), rank)}

    @abstractmethod
    def total(
        self, first_BK: Tensor, second_BK: Tensor, firsts_AK: Tensor, seconds_AK: Tensor, rank: int
    ) -> Tensor:
        """Return the loss of this rank's pairs, a sum."""

    def _sides(self) -> tuple[Side, Side]:
        return self.config.first, self.config.second

    def _stream(self, side: Side, batch: Batch) -> Stream:
        readout = Predict(side.joint, term=side.source, pooled=True)
        return Stream(side.source, side.tower, (batch.segments[side.source],), readouts=(readout,))


class InfoNCE(Pairs):
    """The cross-entropy of the pair among all, from both halves (Radford et al. 2021, figure 3)."""

    def total(
        self, first_BK: Tensor, second_BK: Tensor, firsts_AK: Tensor, seconds_AK: Tensor, rank: int
    ) -> Tensor:
        """Return the mean of both directions' cross-entropies, summed over pairs."""
        B = len(first_BK)
        target_B = rank * B + torch.arange(B, device=first_BK.device)
        forward = F.cross_entropy(first_BK @ seconds_AK.T, target_B, reduction="sum")
        backward = F.cross_entropy(second_BK @ firsts_AK.T, target_B, reduction="sum")
        return (forward + backward) / 2


class Sigmoid(Pairs):
    """The binary cross-entropy of every two rows being a pair (Zhai et al. 2023, eq. 1)."""

    def total(
        self, first_BK: Tensor, second_BK: Tensor, firsts_AK: Tensor, seconds_AK: Tensor, rank: int
    ) -> Tensor:
        """Return the binary cross-entropies, summed over this rank's first halves."""
        B, logits_BA = len(first_BK), first_BK @ seconds_AK.T
        sign_BA = torch.full_like(logits_BA, -1.0)
        sign_BA[:, rank * B : (rank + 1) * B].fill_diagonal_(1.0)
        return -F.logsigmoid(sign_BA * logits_BA).sum()


class _Gather(torch.autograd.Function):
    """The rows of all ranks; the gradient of a row is summed over the losses of all ranks."""

    @staticmethod
    def forward(_: Any, x_BK: Tensor) -> Tensor:
        rows = [torch.empty_like(x_BK) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x_BK.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        grad_AK = grads[0].contiguous()
        dist.all_reduce(grad_AK)
        return grad_AK.chunk(dist.get_world_size())[dist.get_rank()]


def _all(x_BK: Tensor) -> Tensor:
    """Return the rows of all ranks, in the order of ranks: [A,K]."""
    gathered: Tensor = _Gather.apply(x_BK)  # type: ignore[no-untyped-call]
    return gathered
