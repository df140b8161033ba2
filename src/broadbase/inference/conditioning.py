"""Conditioning: what a base generates from is read by an encoder, or as a prefix.

The same functions make the views of training and of generation.

Legend: B rows, G given tokens, T target tokens, N tokens of a segment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from broadbase.core.contracts import TowerName
from broadbase.core.errors import ConfigError
from broadbase.core.usage import ConditioningConfig
from broadbase.core.view import Readout, Segment, Stream, View

Readouts = tuple[Readout, ...]


class EncoderConditioningConfig(ConditioningConfig):
    """Given to an encoder, which the decoder attends to."""

    name: Literal["encoder"] = "encoder"
    encoder: TowerName = "encoder"
    """The tower that reads what is given."""
    decoder: TowerName = "decoder"
    """The tower that generates."""

    def prompt(self, given: Segment, begun: Segment) -> View:
        """Return the encoder's stream of `given` and the decoder's of `begun`."""
        return encoder_view(given, begun, (), self.encoder, self.decoder)


class PrefixConditioningConfig(ConditioningConfig):
    """Given before the target in the same stream, as it is or through a tower of its own."""

    name: Literal["prefix"] = "prefix"
    tower: TowerName = "main"
    """The tower that reads both."""
    through: str | None = None
    """A tower that reads what is given first; without one it is embedded in the same tower."""
    causal: bool = False
    """Whether given tokens see only those before them; otherwise they see each other."""

    def prompt(self, given: Segment, begun: Segment) -> View:
        """Return one stream of `given` and `begun`."""
        return prefix_view(given, begun, (), self.tower, self.through, causal=self.causal)


class InfillingConditioningConfig(ConditioningConfig):
    """An encoder reads the beginning of a document; the decoder generates the full document."""

    name: Literal["infilling"] = "infilling"
    batched: ClassVar[bool] = False
    encoder: TowerName = "encoder"
    """The tower that reads the beginning."""
    decoder: TowerName = "decoder"
    """The tower that generates."""

    def prompt(self, given: Segment, begun: Segment) -> View:
        """Return the encoder's stream of `given` and the decoder's of `begun`."""
        return encoder_view(given, begun, (), self.encoder, self.decoder)


class SentinelConditioningConfig(ConditioningConfig):
    """An encoder reads the beginning of a document and a sentinel; the decoder generates the rest.

    The rest is the one span that is missing, and the sentinel stands for it on both sides.
    """

    name: Literal["sentinel"] = "sentinel"
    batched: ClassVar[bool] = False
    closed: ClassVar[bool] = False
    encoder: TowerName = "encoder"
    """The tower that reads the beginning."""
    decoder: TowerName = "decoder"
    """The tower that generates."""
    sentinels: dict[str, int]
    """The id of the first sentinel, by modality."""

    def prompt(self, given: Segment, begun: Segment) -> View:
        """Return both streams with the sentinel at their ends.

        ConfigError if the modality has no sentinel.
        """
        if given.space not in self.sentinels:
            names = ", ".join(self.sentinels) or "none"
            raise ConfigError(
                f"modality {given.space!r} has no sentinel to generate from; modalities with one:"
                f" {names}"
            )
        sentinel = self.sentinels[given.space]
        given, begun = with_last(given, sentinel), with_last(begun, sentinel)
        return encoder_view(given, begun, (), self.encoder, self.decoder)


def encoder_view(
    given: Segment, target: Segment, readouts: Readouts, encoder: str, decoder: str
) -> View:
    """Return a stream for each tower; `readouts` count tokens of the target."""
    source = Stream("given", encoder, (with_document_ids(given),))
    target = with_document_ids(target)
    return View(
        (source, Stream("target", decoder, (target,), "causal", "given", readouts=readouts))
    )


def prefix_view(
    given: Segment,
    target: Segment,
    readouts: Readouts,
    tower: str,
    through: str | None,
    causal: bool = False,
) -> View:
    """Return one stream of both; `readouts` count tokens of the target.

    The given tokens see each other, or if `causal` those before them; those of the target see all
    before them. `through` is a tower of its own for what is given, whose output then stands in the
    stream.
    """
    before, after = with_document_ids(given), with_document_ids(target)
    assert before.order is not None
    assert after.order is not None
    assert before.document is not None
    G, T = before.position.shape[1], after.position.shape[1]
    kept_BG = (before.document >= 0).unsqueeze(-1)
    first_B11 = 1 + before.position.where(kept_BG, 0).amax(dim=(1, 2), keepdim=True)
    prefix = before if causal else replace(before, order=torch.zeros_like(before.order))
    assert prefix.order is not None
    next_B1 = 1 + prefix.order.where(before.document >= 0, 0).amax(dim=1, keepdim=True)
    after = replace(after, position=after.position + first_B11, order=after.order + next_B1)
    index = G + torch.arange(T).expand(len(after.position), -1)
    counted = tuple(replace(readout, index=index) for readout in readouts)
    if through is None:
        return View((Stream("target", tower, (prefix, after), "causal", readouts=counted),))
    source = Stream("given", through, (before,))
    segments = (prefix.through("given"), after)
    return View((source, Stream("target", tower, segments, "causal", readouts=counted)))


def with_document_ids(segment: Segment) -> Segment:
    """Return a segment with its `order` and `document`, also if each row is one document."""
    if segment.order is not None and segment.document is not None:
        return segment
    tokens = torch.arange(segment.position.shape[1], device=segment.position.device)
    order = tokens.expand(segment.position.shape[:2])
    return replace(segment, order=order, document=torch.zeros_like(order))


def with_last(segment: Segment, value: int) -> Segment:
    """Return a segment of ids [B,N] with one more token after the last of each row: [B,N+1]."""
    segment = with_document_ids(segment)
    assert segment.order is not None
    assert segment.document is not None
    last_B1 = (segment.document >= 0).sum(dim=1, keepdim=True)

    def put(tensor_BN: Tensor, new: Tensor | int, padding: int) -> Tensor:
        longer = torch.nn.functional.pad(tensor_BN, (0, 1), value=padding)
        new_B1 = torch.as_tensor(new, dtype=longer.dtype).expand(last_B1.shape)
        return longer.scatter(1, last_B1, new_B1)

    order_BN = put(segment.order, last_B1, 0)
    line_BN3 = order_BN.unsqueeze(-1).expand(-1, -1, 3)
    return replace(
        segment,
        values=put(segment.values, value, 0),
        position=line_BN3,
        order=order_BN,
        document=put(segment.document, 0, -1),
    )
