"""What most objectives share: the scores of each Read go to one named term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Readout, View


class ReadoutLoss:
    """The half of an Objective that follows from its Reads; every term counts alike."""

    batch_coupled: ClassVar[bool] = False

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        weights: dict[str, float] = {}
        for read in (read for view in views for read in view.readouts):
            weights[read.term] = weights.get(read.term, 0.0) + float(_weight(read).sum())
        return {term: TermWeight(weight, 1 / len(weights)) for term, weight in weights.items()}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        totals: dict[str, Tensor] = {}
        for output, view in zip(outputs, views, strict=True):
            for read in view.readouts:
                score_BS = output.scores[read.term]
                total = (score_BS * _weight(read).to(score_BS.dtype)).sum()
                totals[read.term] = totals[read.term] + total if read.term in totals else total
        return totals


def _weight(read: Readout) -> Tensor:
    assert read.loss_weight is not None, "a scored Read says how much each place counts"
    return read.loss_weight
