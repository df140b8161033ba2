"""Properties: what describes a record is predicted from its pooled tokens.

With descriptors that a library computes, this is MolBERT's auxiliary task (Fabian et al. 2020,
2.2), and needs no labels; with labels it is supervised training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Score, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import paired_with
from broadbase.objectives.scoring import ReadoutLoss


class PropertiesConfig(ObjectiveConfig):
    """The properties of a record are predicted from the mean of its tokens."""

    name: Literal["properties"] = "properties"
    source: str = "record"
    """The source of records, paired with their properties."""
    target: str = "properties"
    """The source of properties, one token for each record."""
    tower: TowerName = "main"
    """The tower that reads the records."""
    attention: Literal["causal", "full"] = "causal"
    """Which tokens of a record see which."""

    @property
    def pattern(self) -> str:  # type: ignore[override]
        """The value of `attention`."""
        return self.attention

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that both sources are there and paired; ValueError otherwise."""
        paired_with(self.name, sources, self.source, self.target)

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        """Return the objective."""
        return Properties(self.source, self.target, self.tower, self.attention)


@dataclass(frozen=True)
class Properties(ReadoutLoss):
    """One stream with one pooled readout."""

    source: str
    target: str
    tower: str
    pattern: str

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the view of a batch; none if it lacks one of the two sources, as in evaluation."""
        if not {self.source, self.target} <= batch.segments.keys():
            return ()
        segment, properties = batch.segments[self.source], batch.segments[self.target]
        # the last token, as a start value may come before it
        target, weight = properties.values[:, -1:], properties.target_weight[:, -1:]
        readout = Score(properties.space, self.target, target, weight, pooled=True)
        return (View((Stream("main", self.tower, (segment,), self.pattern, readouts=(readout,)),)),)
