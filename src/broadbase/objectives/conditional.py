"""Conditional: one of a pair is given, the other told, place by place.

Two ways to give: to an encoder, which the decoder attends to (speech to text, as Whisper; Radford
et al. 2022, 2.2), or before it in the same stream (a class or a name before a picture; a picture
before its caption, as LLaVA; Liu et al. 2023, 4.1).

Legend: B rows, G given places, T told places, the start first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Protocol

import torch

from broadbase.core.contracts import TOWER, Batch, Corruption, ObjectiveConfig, TowerName
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.objectives.documents import next_token_targets, paired_with
from broadbase.objectives.scoring import ReadoutLoss


class ConditionalConfig(ObjectiveConfig):
    """What both have; not a choice by itself."""

    source: str = "given"  # sources, paired
    target: str = "told"

    def check(self, sources: Mapping[str, str | None]) -> None:
        paired_with(self.name, sources, self.source, self.target)

    def build(self) -> Conditional:
        """The objective, whose `prompt` also asks a base for what is not known yet."""
        raise TypeError(f"{type(self).__name__} has no build()")


class Seq2SeqConfig(ConditionalConfig):
    """Given to an encoder (Sutskever et al. 2014; Vaswani et al. 2017)."""

    name: Literal["seq2seq"] = "seq2seq"
    encoder: TowerName = "encoder"  # towers
    decoder: TowerName = "decoder"

    def build(self) -> Conditional:
        return Conditional(self, EncoderConditioned(self.encoder, self.decoder))


class PrefixConditionalConfig(ConditionalConfig):
    """Given before what is told; `through` a tower of its own where there is one (LLaVA)."""

    name: Literal["prefix_conditional"] = "prefix_conditional"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    through: Annotated[str | None, TOWER] = None

    def build(self) -> Conditional:
        return Conditional(self, PrefixConditioned(self.tower, self.through))


class Conditioning(Protocol):
    """How a segment is given, before another is told."""

    def __call__(self, given: Segment, told: Segment, reads: tuple[Readout, ...]) -> View:
        """The view; the last segment of its last stream is the told one, which `reads` count."""
        ...


class Conditional(ReadoutLoss):
    """One view of both; only the told places are scored."""

    def __init__(self, config: ConditionalConfig, way: Conditioning) -> None:
        self.given, self.told, self.way = config.source, config.target, way

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        if not {self.given, self.told} <= batch.segments.keys():  # other sources, evaluated
            return ()
        told, values, weight = next_token_targets(batch.segments[self.told])
        read = Readout(told.space, self.told, values, weight)
        return (self.way(batch.segments[self.given], told, (read,)),)

    def prompt(self, given: Segment, told: Segment) -> View:
        """What to continue: `told` [B,T] as far as it is known, without padding."""
        return self.way(given, told, ())


class EncoderConditioned:
    """To an encoder."""

    def __init__(self, encoder: str, decoder: str) -> None:
        self.encoder, self.decoder = encoder, decoder

    def __call__(self, given: Segment, told: Segment, reads: tuple[Readout, ...]) -> View:
        heard = Stream("given", self.encoder, (with_document_ids(given),))
        return View(
            (
                heard,
                Stream(
                    "told",
                    self.decoder,
                    (with_document_ids(told),),
                    "causal",
                    "given",
                    readouts=reads,
                ),
            )
        )


class PrefixConditioned:
    """In the same stream: the given places see each other, the told ones see all before."""

    def __init__(self, tower: str, through: str | None) -> None:
        self.tower, self.through = tower, through

    def __call__(self, given: Segment, told: Segment, reads: tuple[Readout, ...]) -> View:
        before, after = with_document_ids(given), with_document_ids(told)
        assert before.order is not None
        assert after.order is not None
        assert before.document is not None
        G, T = before.position.shape[1], after.position.shape[1]
        kept_BG = (before.document >= 0).unsqueeze(-1)
        first_B11 = 1 + before.position.where(kept_BG, 0).amax(dim=(1, 2), keepdim=True)
        after = replace(after, position=after.position + first_B11, order=after.order + 1)
        prefix = replace(before, order=torch.zeros_like(before.order))
        index = G + torch.arange(T).expand(len(after.position), -1)
        counted = tuple(replace(read, index=index) for read in reads)
        if self.through is None:
            return View((Stream("told", self.tower, (prefix, after), "causal", readouts=counted),))
        seen = Stream("given", self.through, (before,))
        prefix = replace(prefix, space="@given", values=None, masked=None)
        return View((seen, Stream("told", self.tower, (prefix, after), "causal", readouts=counted)))


def with_document_ids(segment: Segment) -> Segment:
    """The same with `order` and `document` said, also of rows that are one whole document."""
    if segment.order is not None and segment.document is not None:
        return segment
    place = torch.arange(segment.position.shape[1], device=segment.position.device)
    order = place.expand(segment.position.shape[:2])
    return replace(segment, order=order, document=torch.zeros_like(order))
