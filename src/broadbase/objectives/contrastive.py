"""Contrastive: the two halves of a pair find each other among all of a batch.

Row i of one source and row i of the other are a pair; each row is pooled by its own tower and
projected into a joint Space. Pairs of all ranks take part: vectors are gathered with gradient.

Legend: B pairs of this rank, A pairs of all ranks, K dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Readout, Stream, View
from broadbase.objectives.documents import paired_with

TERM = "pairs"


class Side(Config):
    """One half of the pairs: the source, its tower, its side of the joint Space."""

    source: str
    tower: TowerName
    joint: str


class PairsConfig(ObjectiveConfig):
    """What both have; not a choice by itself."""

    first: Side = Side(source="image", tower="image", joint="image_joint")
    second: Side = Side(source="text", tower="text", joint="text_joint")

    def check(self, sources: Mapping[str, str | None]) -> None:
        paired_with(self.name, sources, self.first.source, self.second.source)


class InfoNCEConfig(PairsConfig):
    """CLIP's loss."""

    name: Literal["infonce"] = "infonce"

    def build(self) -> Objective:
        return InfoNCE(self)


class SigmoidConfig(PairsConfig):
    """SigLIP's loss."""

    name: Literal["sigmoid"] = "sigmoid"

    def build(self) -> Objective:
        return Sigmoid(self)


class Pairs:
    """Two streams in one view, each read once, pooled."""

    batch_coupled: ClassVar[bool] = True

    def __init__(self, config: PairsConfig) -> None:
        self.config = config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """One view of both halves; none of a batch of other sources."""
        if not {side.source for side in self._sides()} <= batch.segments.keys():
            return ()
        streams = tuple(self._stream(side, batch) for side in self._sides())
        return (View(streams, ranks=batch.rng.stride),)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """As many as there are pairs."""
        return {TERM: TermWeight(float(sum(view.size for view in views)))} if views else {}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """The sum over this rank's pairs, against those of all ranks."""
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
        """The loss of this rank's pairs, a sum."""

    def _sides(self) -> tuple[Side, Side]:
        return self.config.first, self.config.second

    def _stream(self, side: Side, batch: Batch) -> Stream:
        read = Readout(side.joint, term=side.source, pooled=True)
        return Stream(side.source, side.tower, (batch.segments[side.source],), readouts=(read,))


class InfoNCE(Pairs):
    """Which of all seconds belongs to a first, and the reverse (Radford et al. 2021, figure 3)."""

    def total(
        self, first_BK: Tensor, second_BK: Tensor, firsts_AK: Tensor, seconds_AK: Tensor, rank: int
    ) -> Tensor:
        B = len(first_BK)
        own_B = rank * B + torch.arange(B, device=first_BK.device)
        there = F.cross_entropy(first_BK @ seconds_AK.T, own_B, reduction="sum")
        back = F.cross_entropy(second_BK @ firsts_AK.T, own_B, reduction="sum")
        return (there + back) / 2


class Sigmoid(Pairs):
    """Whether each first and second are a pair, each by itself (Zhai et al. 2023, eq. 1)."""

    def total(
        self, first_BK: Tensor, second_BK: Tensor, firsts_AK: Tensor, seconds_AK: Tensor, rank: int
    ) -> Tensor:
        B, logits_BA = len(first_BK), first_BK @ seconds_AK.T
        sign_BA = torch.full_like(logits_BA, -1.0)
        sign_BA[:, rank * B : (rank + 1) * B].fill_diagonal_(1.0)
        return -F.logsigmoid(sign_BA * logits_BA).sum()


class _Gather(torch.autograd.Function):
    """The rows of all ranks; each rank's loss has a part in the gradient of each rank's rows."""

    @staticmethod
    def forward(_: Any, x_BK: Tensor) -> Tensor:
        rows = [torch.empty_like(x_BK) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x_BK.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        whole_AK = grads[0].contiguous()
        dist.all_reduce(whole_AK)
        return whole_AK.chunk(dist.get_world_size())[dist.get_rank()]


def _all(x_BK: Tensor) -> Tensor:
    """The rows of all ranks, in the order of ranks: [A,K]."""
    gathered: Tensor = _Gather.apply(x_BK)  # type: ignore[no-untyped-call]
    return gathered
