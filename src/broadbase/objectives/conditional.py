"""Conditional: a record is predicted token by token from another that is given.

What is given goes to an encoder, which the decoder attends to (speech to text, as Whisper; Radford
et al. 2022, 2.2), or before the target in the same stream (a class or a name before an image; an
image before its caption, as LLaVA; Liu et al. 2023, 4.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

from broadbase.core.contracts import TOWER, Batch, Corruption, ObjectiveConfig, TowerName
from broadbase.core.usage import ConditioningConfig, DataFacts, Usage
from broadbase.core.view import Readout, Score, Segment, View
from broadbase.inference.autoregressive import AutoregressiveConfig
from broadbase.inference.conditioning import (
    EncoderConditioningConfig,
    PrefixConditioningConfig,
    encoder_view,
    prefix_view,
)
from broadbase.objectives.documents import next_token_targets, paired_with
from broadbase.objectives.scoring import ReadoutLoss

MakeView = Callable[[Segment, Segment, tuple[Readout, ...]], View]  # of given and target


class ConditionalConfig(ObjectiveConfig):
    """What both have in common; not a choice by itself."""

    source: str = "source"
    """The source whose records are given, paired with those of the target."""
    target: str = "target"
    """The source whose records are predicted."""

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that both sources are there and paired; ValueError otherwise."""
        paired_with(self.name, sources, self.source, self.target)

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that generates the target from what is given."""
        source, target = facts.modalities[self.source], facts.modalities[self.target]
        return Usage(
            attention=self.pattern,
            generator=AutoregressiveConfig(),
            conditioning=self.conditioning(source, target),
            grids=dict(facts.grids),
        )

    @abstractmethod
    def conditioning(self, source: str, target: str) -> ConditioningConfig:
        """Return how a record of modality `source` is given, and one of `target` generated."""

    def build(self) -> Conditional:
        """Return the objective."""
        return Conditional(self, self.view)

    @abstractmethod
    def view(self, given: Segment, target: Segment, readouts: tuple[Readout, ...]) -> View:
        """Return the view of a pair, in which `readouts` count tokens of the target."""


class Seq2SeqConfig(ConditionalConfig):
    """Given to an encoder (Sutskever et al. 2014; Vaswani et al. 2017)."""

    name: Literal["seq2seq"] = "seq2seq"
    encoder: TowerName = "encoder"
    """The tower that reads what is given."""
    decoder: TowerName = "decoder"
    """The tower that predicts the target."""

    def conditioning(self, source: str, target: str) -> ConditioningConfig:
        """Return the conditioning through the encoder."""
        return EncoderConditioningConfig(
            source=source, target=target, encoder=self.encoder, decoder=self.decoder
        )

    def view(self, given: Segment, target: Segment, readouts: tuple[Readout, ...]) -> View:
        """Return a stream for each of the two towers."""
        return encoder_view(given, target, readouts, self.encoder, self.decoder)


class PrefixConditionalConfig(ConditionalConfig):
    """Given before the target in the same stream; LLaVA reads it `through` a tower of its own."""

    name: Literal["prefix_conditional"] = "prefix_conditional"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads both."""
    through: Annotated[str | None, TOWER] = None
    """A tower that reads what is given first; null: it is embedded in the same tower."""

    def conditioning(self, source: str, target: str) -> ConditioningConfig:
        """Return the conditioning by a prefix."""
        return PrefixConditioningConfig(
            source=source, target=target, tower=self.tower, through=self.through
        )

    def view(self, given: Segment, target: Segment, readouts: tuple[Readout, ...]) -> View:
        """Return one stream of both."""
        return prefix_view(given, target, readouts, self.tower, self.through)


class Conditional(ReadoutLoss):
    """One view of both; only tokens of the target are scored."""

    def __init__(self, config: ConditionalConfig, view: MakeView) -> None:
        self.source, self.target, self.view = config.source, config.target, view

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the view of a batch; none if it lacks one of the two sources, as in evaluation."""
        if not {self.source, self.target} <= batch.segments.keys():
            return ()
        target, values, weight = next_token_targets(batch.segments[self.target])
        readout = Score(target.space, self.target, values, weight)
        return (self.view(batch.segments[self.source], target, (readout,)),)
