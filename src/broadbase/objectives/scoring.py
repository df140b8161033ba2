"""What most objectives share: the scores of each Read go to one named term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from broadbase.core.loss import Loss, Share
from broadbase.core.view import Output, Read, View


class ReadScores:
    """The half of an Objective that follows from its Reads; every term counts alike."""

    whole: ClassVar[bool] = False

    def shares(self, views: Sequence[View]) -> Mapping[str, Share]:
        weights: dict[str, float] = {}
        for read in (read for view in views for read in view.reads):
            weights[read.term] = weights.get(read.term, 0.0) + float(_weight(read).sum())
        return {term: Share(weight, 1 / len(weights)) for term, weight in weights.items()}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        totals: dict[str, Tensor] = {}
        for output, view in zip(outputs, views, strict=True):
            for read in view.reads:
                score_BS = output.scores[read.term]
                total = (score_BS * _weight(read).to(score_BS.dtype)).sum()
                totals[read.term] = totals[read.term] + total if read.term in totals else total
        return totals


def _weight(read: Read) -> Tensor:
    assert read.weight is not None, "a scored Read says how much each place counts"
    return read.weight
