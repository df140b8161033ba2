"""Causal modelling: every place predicts the next (GPT; Radford et al. 2018, eq. 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import ReadoutLoss


class CausalConfig(ObjectiveConfig):
    """Next-place prediction, the same for ids and for vectors."""

    name: Literal["causal"] = "causal"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"

    def likelihoods(self, sources: Iterable[str]) -> Mapping[str, str]:
        return {source: source for source in sources}

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return Causal(self)


class Causal(ReadoutLoss):
    """One causal stream a source; place i is read against the value at i + 1."""

    def __init__(self, config: CausalConfig) -> None:
        self.tower = config.tower

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, segment) for name, segment in batch.segments.items())

    def _view(self, name: str, segment: Segment) -> View:
        seen, values, weight = next_token_targets(segment)
        read = Readout(segment.space, term=name, target=values, loss_weight=weight)
        return View((Stream("main", self.tower, (seen,), pattern="causal", readouts=(read,)),))
