"""Causal modelling: every place predicts the next (GPT; Radford et al. 2018, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig
from broadbase.core.view import Read, Segment, Stream, View
from broadbase.objectives.scoring import ReadScores


class CausalConfig(ObjectiveConfig):
    """Next-place prediction, the same for ids and for vectors."""

    name: Literal["causal"] = "causal"
    pattern: ClassVar[str] = "causal"
    tower: str = "main"

    def build(self) -> Objective:
        return Causal(self)


class Causal(ReadScores):
    """One causal stream a source; place i is read against the value at i + 1."""

    def __init__(self, config: CausalConfig) -> None:
        self.tower = config.tower

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        return tuple(self._view(name, segment) for name, segment in batch.segments.items())

    def _view(self, name: str, segment: Segment) -> View:
        values, weight = segment.values, segment.weight
        assert values is not None
        assert weight is not None
        seen = segment.map(lambda tensor_BN: tensor_BN[:, :-1])
        read = Read(segment.source, term=name, values=values[:, 1:], weight=weight[:, 1:])
        return View((Stream("main", self.tower, (seen,), pattern="causal", reads=(read,)),))
