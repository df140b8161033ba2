"""Causal modelling: every token predicts the next (GPT; Radford et al. 2018, eq. 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from broadbase.core.contracts import Corruption, Objective, ObjectiveConfig, TowerName
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Score, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import next_token_targets
from broadbase.objectives.scoring import PerSource


class CausalConfig(ObjectiveConfig):
    """Next-token prediction, the same for ids and for vectors."""

    name: Literal["causal"] = "causal"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the tokens."""

    def likelihoods(self, sources: Iterable[str]) -> Mapping[str, str]:
        """Return every source: each term is the likelihood of the source of the same name."""
        return {source: source for source in sources}

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt if its attention is causal."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        """Return the objective."""
        return Causal(self.tower)


@dataclass(frozen=True)
class Causal(PerSource):
    """One causal stream for each source; token i predicts the value at i + 1."""

    tower: str

    def view(
        self, name: str, segment: Segment, corrupt: Mapping[str, Corruption], rng: KeyedRandom
    ) -> View:
        """Return one causal stream."""
        inputs, target, weight = next_token_targets(segment)
        readout = Score(segment.space, term=name, target=target, loss_weight=weight)
        return View((Stream("main", self.tower, (inputs,), pattern="causal", readouts=(readout,)),))
