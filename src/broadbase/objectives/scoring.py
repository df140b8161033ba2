"""Bases of objectives whose loss is the sum of their readouts' scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from broadbase.core.contracts import Batch, Corruption
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Segment, View


class ReadoutLoss:
    """The loss of an objective in which every readout is scored and every term counts equally."""

    batch_coupled: ClassVar[bool] = False

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the sum of the targets' weights by term; the scales of all terms are equal."""
        weights: dict[str, float] = {}
        for score in (score for view in views for score in view.scored):
            weights[score.term] = weights.get(score.term, 0.0) + float(score.loss_weight.sum())
        return {term: TermWeight(weight, 1 / len(weights)) for term, weight in weights.items()}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the weighted sum of scores by term."""
        totals: dict[str, Tensor] = {}
        for output, view in zip(outputs, views, strict=True):
            for score in view.scored:
                term, score_BS = score.term, output.scores[score.term]
                total = (score_BS * score.loss_weight.to(score_BS.dtype)).sum()
                totals[term] = totals[term] + total if term in totals else total
        return totals


class PerSource(ReadoutLoss, ABC):
    """An objective that makes one view of every source, independent of the other sources."""

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return one view for each source of a batch."""
        return tuple(
            self.view(name, segment, corrupt, batch.rng) for name, segment in batch.segments.items()
        )

    @abstractmethod
    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return the view of source `name`, whose rows are `segment`.

        `corrupt` holds the corruption of every modality. All randomness comes from `rng`.
        """
