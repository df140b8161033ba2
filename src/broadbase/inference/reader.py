"""A model with its codecs, and how it reads records.

Legend: B batch, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from broadbase.core.codec import Codec, Sample
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.usage import Usage
from broadbase.core.view import Readout, Segment, Stream, View
from broadbase.inference.documents import (
    closing,
    document,
    joined,
    must_fit,
    opening,
    padded,
    several,
    unreadable,
)
from broadbase.inference.interleave import Placeholder, interleaved, slots
from broadbase.inference.usages import CAUSAL
from broadbase.model.model import Model, ModelConfig


@dataclass(frozen=True)
class Origin:
    """The published folder that a base was read from, so that it can leave as it came."""

    config: Mapping[str, Any]  # its config.json
    names: Mapping[str, str]  # of its tensors, and the file of each
    unused_tensors: Mapping[str, Tensor]  # those that our forward does not use
    files: Mapping[str, bytes]  # of its tokenizer and generation


@dataclass(frozen=True, repr=False)
class Reader:
    """A model with its codecs: raw records in, segments and views out."""

    config: ModelConfig
    model: Model
    codecs: Mapping[str, Codec]
    usage: Usage = CAUSAL
    origin: Origin | None = None

    def read(
        self,
        raws: Iterable[Any],
        *,
        modality: str | None = None,
        closed: bool = False,
        first: int = 0,
    ) -> Segment:
        """Return records as `prepare` reads them, cleaned and encoded, with their start, as rows.

        `closed` ones have their end value too. DataError names the first that is no such record,
        counted from `first` on.
        """
        space = self.codec(modality)[0]
        return padded(space, self._documents(space, several(raws), closed, first))

    def read_pairs(self, raws: Iterable[Any], *, modality: str | None = None) -> Segment:
        """Return pairs of records as rows: both items with their ends, as [CLS] a [SEP] b [SEP].

        Tokens of the second item have token type 1. DataError as `read`.
        """
        space, codec = self.codec(modality)
        firsts, seconds = (self._documents(space, each, True) for each in zip(*raws, strict=True))
        rows = [joined(codec, *pair) for pair in zip(firsts, seconds, strict=True)]
        segment = padded(space, rows)
        ends = torch.tensor([len(position) for _, position in firsts])
        index = torch.arange(segment.position.shape[1])
        return replace(segment, token_type=(index >= ends[:, None]).long())

    def _begun(
        self, space: str, raws: Sequence[Any], first: int = 0, closed: bool = False
    ) -> Segment:
        """Return beginnings of records, to go on with; None: from nothing.

        A text may hold special tokens.
        """
        return padded(space, self._documents(space, raws, closed, first, begun=True))

    def _documents(
        self, space: str, raws: Sequence[Any], closed: bool, first: int = 0, *, begun: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        codec, kind = self.codecs[space], self.config.modalities[space]
        clean, others = (
            kind.clean_prefix if begun else kind.clean,
            [n for n in self.codecs if n != space],
        )
        documents = []
        for number, raw in enumerate(raws, first):
            with unreadable(number, space, others):
                if raw is None and not begun:
                    raise DataError(f"record {number} is None; leave it out")
                made = raw if raw is None or isinstance(raw, Sample) else clean(raw)
                documents.append(document(codec, made, closed, special=begun))
        return documents

    def _view(
        self,
        space: str,
        segment: Segment,
        reads: tuple[Readout, ...] = (),
        inside: Sequence[Sequence[Any]] | None = None,
    ) -> View:
        """Return the view of `segment` [B,N] in its tower.

        What is `inside` each row goes through a tower of its own, where it has one, to the token
        that stands for it among the ids of the segment.
        """
        must_fit(space, self.config.max_length(space), segment.position.shape[1])
        tower, streams = self.tower(space), list[Stream]()
        records: list[tuple[Segment, Tensor]] = []
        for i, slot in enumerate(self._slots(space, segment, inside)):
            kind = slot.modality
            given = self.read(
                slot.raws, modality=kind, closed=self.attention_pattern(kind) == "full"
            )
            if self.tower(kind) != tower:
                streams.append(
                    Stream(f"{kind} {i}", self.tower(kind), (given,), self.attention_pattern(kind))
                )
                connector: Any = self.model.connectors[f"{self.tower(kind)}>{tower}"]
                given = connector.output_segment(given).through(f"{kind} {i}")
            records.append((given, slot.at))
        segments = interleaved(segment, records) if records else (segment,)
        streams.append(
            Stream("main", tower, segments, self.attention_pattern(space), readouts=reads)
        )
        return View(tuple(streams)).to(next(self.model.parameters()).device)

    def _slots(
        self, space: str, segment: Segment, inside: Sequence[Sequence[Any]] | None
    ) -> Sequence[Placeholder]:
        codec = self.codecs[space]
        stands = codec.placeholder_ids
        if not stands and not any(inside or ()):
            return ()
        rows = inside or [()] * len(segment.position)
        return slots(segment, stands, rows, codec.id_to_token)

    def max_tokens(self, modality: str | None = None) -> float:
        """Return the most values that a record may have, its start and end not counted."""
        space, codec = self.codec(modality)
        return self.config.max_length(space) - len(opening(codec)) - len(closing(codec))

    @property
    def unavailable(self) -> tuple[str, ...]:
        """What cannot be measured of the base, in sentences; of one in this process nothing."""
        return ()

    @property
    def gives_vectors(self) -> bool:
        """Whether it computes vectors of records."""
        return True

    def token_bytes(self, tower: str) -> int:
        """Return the bytes of the keys and values of one token of a tower."""
        config: Any = self.config.towers[tower]
        size = next(self.model.parameters()).element_size()
        numbers = 0
        for layers in config.layers:
            attention = layers.block.attention
            numbers += 2 * layers.repeat * attention.kv_heads * attention.head_dim
        return int(numbers * size)

    def tower(self, space: str) -> str:
        """Return the tower that a modality belongs to."""
        return self.config.tower_of.get(space, next(iter(self.config.towers)))

    def attention_pattern(self, space: str) -> str:
        """Return the attention pattern of the tokens of a modality."""
        return self.usage.attention_of.get(self.tower(space), self.usage.attention)

    def codec(self, modality: str | None = None) -> tuple[str, Codec]:
        """Return the name and codec of a modality, or of the first; ConfigError if none is."""
        name = modality or next(iter(self.codecs), "")
        if name not in self.codecs:
            names = ", ".join(self.codecs) or "none"
            raise ConfigError(f"this base has no modality {name!r}; it has: {names}")
        return name, self.codecs[name]

    def _closed(self, modality: str | None) -> bool:
        """Return whether a record is read with its end.

        It is with full attention, or if a template has an end.
        """
        space, codec = self.codec(modality)
        return self.attention_pattern(space) == "full" or codec.after is not None
