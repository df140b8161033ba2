"""Properties: what is known of a record is told from its pooled places.

With descriptors that a library computes, this is MolBERT's auxiliary task (Fabian et al. 2020,
2.2), and needs no labels; with labels it is supervised training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Readout, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import paired_with
from broadbase.objectives.scoring import ReadoutLoss


class PropertiesConfig(ObjectiveConfig):
    """One of a pair told from the mean of the other's places."""

    name: Literal["properties"] = "properties"
    source: str = "record"
    target: str = "properties"  # the source of one place a record that is told
    tower: TowerName = "main"
    attention: Literal["causal", "full"] = "causal"  # the pattern of the stream

    @property
    def pattern(self) -> str:  # type: ignore[override]
        return self.attention

    def check(self, sources: Mapping[str, str | None]) -> None:
        paired_with(self.name, sources, self.source, self.target)

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return Properties(self.source, self.target, self.tower, self.attention)


class Properties(ReadoutLoss):
    """One stream, read once, pooled."""

    def __init__(self, source: str, target: str, tower: str, pattern: str) -> None:
        self.source, self.target = source, target
        self.tower, self.pattern = tower, pattern

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        if not {self.source, self.target} <= batch.segments.keys():  # other sources, evaluated
            return ()
        segment, known = batch.segments[self.source], batch.segments[self.target]
        assert known.values is not None
        assert known.loss_weight is not None
        value, weight = (
            known.values[:, -1:],
            known.loss_weight[:, -1:],
        )  # a start may stand before it
        read = Readout(known.space, self.target, value, weight, pooled=True)
        return (View((Stream("main", self.tower, (segment,), self.pattern, readouts=(read,)),)),)
