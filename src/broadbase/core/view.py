"""A View: one pass through the model, as data.

Legend: B batch, N tokens of a segment, T tokens of a stream, S scored tokens, K codes or
channels, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


class TensorRecord:
    """A frozen record of tensors: `map` applies a function to every tensor in it, at any depth."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor of the record."""
        changed = {f.name: _map(getattr(self, f.name), function) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **changed)  # type: ignore[type-var]

    def rows(self, start: int, stop: int) -> Self:
        """Take rows `start` to `stop` of the batch axis: how a batch is cut into micro-batches."""
        return self.map(lambda tensor: tensor[start:stop])

    def to(self, device: torch.device) -> Self:
        """Move the record to `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, TensorRecord):
        return value.map(function)
    if isinstance(value, tuple):
        return tuple(_map(item, function) for item in value)
    return value


@dataclass(frozen=True)
class Segment(TensorRecord):
    """Values of one Space, and all that the backbone may know of them.

    `order` and `document` are None when a row is one complete document in memory order; attention
    then keeps its fast causal path.
    """

    space: str  # the name of a modality in `ModelConfig`
    values: Tensor  # [B,N] ids | [B,N,K] codes or vectors
    position: Tensor  # [B,N,3] (time, row, column); text is (i,i,i)
    order: Tensor | None = None  # [B,N] rank in its document: causality reads this
    document: Tensor | None = None  # [B,N] packed document; -1 is padding
    masked: Tensor | None = None  # [B,N] bool: embed as masked
    loss_weight: Tensor | None = None  # [B,N] how much a token counts as a target
    token_type: Tensor | None = None  # [B,N] token type (BERT's sentences)
    noise_level: Tensor | None = None  # [B,N] how noisy the values are, for layers that follow it

    @property
    def target_weight(self) -> Tensor:
        """How much each token counts as a target [B,N].

        Where `loss_weight` is None it is 1, and 0 for padding.
        """
        if self.loss_weight is not None:
            return self.loss_weight
        return (
            torch.ones(self.position.shape[:-1])
            if self.document is None
            else (self.document >= 0).float()
        )

    def through(self, stream: str) -> StreamSegment:
        """Return the output of an earlier stream at these tokens, instead of their values."""
        return StreamSegment(
            stream, self.position, self.order, self.document, self.token_type, self.noise_level
        )


@dataclass(frozen=True)
class MaskedSegment(TensorRecord):
    """Positions of a Space without values: each is embedded as its mask vector."""

    space: str  # the name of a modality or a head in `ModelConfig`
    position: Tensor  # [B,N,3]
    order: Tensor | None = None  # [B,N]
    document: Tensor | None = None  # [B,N]
    token_type: Tensor | None = None  # [B,N]
    noise_level: Tensor | None = None  # [B,N]


@dataclass(frozen=True)
class StreamSegment(TensorRecord):
    """The output of an earlier stream, through the connector of the two towers."""

    stream: str  # the name of the earlier stream
    position: Tensor  # [B,N,3]
    order: Tensor | None = None  # [B,N]
    document: Tensor | None = None  # [B,N]
    token_type: Tensor | None = None  # [B,N]
    noise_level: Tensor | None = None  # [B,N]


Input = Segment | MaskedSegment | StreamSegment  # what a stream is made of


@dataclass(frozen=True)
class Predict(TensorRecord):
    """Positions of a stream that a head predicts."""

    head: str  # its name in `ModelConfig.heads`, or that of a modality which is predicted
    term: str  # the name of the predictions in `Output`
    index: Tensor | None = None  # [B,S] into the stream; None: every token
    pooled: bool = False  # read all positions as one (S = 1), as the head pools


@dataclass(frozen=True)
class Score(TensorRecord):
    """Positions of a stream at which a head is scored against targets."""

    head: str  # its name in `ModelConfig.heads`, or that of a modality which is predicted
    term: str  # the loss term that the scores go to
    target: Tensor  # [B,S,...]
    loss_weight: Tensor  # [B,S]; 0 is padding, so that S is static
    index: Tensor | None = None  # [B,S] into the stream; None: every token
    pooled: bool = False  # read all positions as one (S = 1), as the head pools

    @property
    def tokens(self) -> Tensor:
        """The numbers of the scored tokens in their stream: [B,S]."""
        if self.index is not None:
            return self.index
        B, S = self.loss_weight.shape
        return torch.arange(S, device=self.loss_weight.device).expand(B, S)

    def predict(self, term: str) -> Predict:
        """Return the same readout without its targets, under the name `term`."""
        return Predict(self.head, term, self.index, self.pooled)


Readout = Predict | Score  # what a head does with a stream


@dataclass(frozen=True)
class Stream(TensorRecord):
    """Segments joined along their tokens and sent through a Tower."""

    name: str
    tower: str
    segments: tuple[Input, ...]
    pattern: str = "full"  # who sees whom: a name in nn.patterns
    context: str | None = None  # an earlier stream to cross-attend to
    readouts: tuple[Readout, ...] = ()
    condition: tuple[Segment, ...] = ()  # [B,1] or [B,T] values, such as a class; their sum counts

    @property
    def value_segments(self) -> tuple[Segment, ...]:
        """Its segments that have values."""
        return tuple(part for part in self.segments if isinstance(part, Segment))

    @property
    def stream_segments(self) -> tuple[StreamSegment, ...]:
        """Its segments that are the outputs of earlier streams."""
        return tuple(part for part in self.segments if isinstance(part, StreamSegment))

    @property
    def scored(self) -> tuple[Score, ...]:
        """Its readouts that are scored."""
        return tuple(readout for readout in self.readouts if isinstance(readout, Score))


@dataclass(frozen=True)
class View(TensorRecord):
    """Streams in order of dependence."""

    streams: tuple[Stream, ...]
    component: str = ""  # which of several objectives made it
    teacher: bool = False  # goes through the model's teacher, without gradient
    ranks: int = 1  # that hold its other rows, for objectives whose rows depend on each other

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """The readouts of all streams."""
        return tuple(readout for stream in self.streams for readout in stream.readouts)

    @property
    def scored(self) -> tuple[Score, ...]:
        """The readouts of all streams that are scored."""
        return tuple(readout for stream in self.streams for readout in stream.scored)

    @property
    def size(self) -> int:
        """B, the length of the batch axis."""
        return int(self.streams[0].segments[0].position.shape[0])


@dataclass(frozen=True)
class Tokens(TensorRecord):
    """What attention may know of a stream: never what the values mean."""

    position: Tensor  # [B,T,3]
    order: Tensor | None = None  # [B,T]
    document: Tensor | None = None  # [B,T]
    token_type: Tensor | None = None  # [B,T]
    noise_level: Tensor | None = None  # [B,T]


@dataclass(frozen=True)
class TowerOutput(TensorRecord):
    """What a Tower makes of a stream."""

    x: Tensor  # [B,T,D]
    tokens: Tokens
    layers: tuple[Tensor, ...] = ()  # [B,T,D] after each block, where requested
    aux_losses: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [B], to be lowered too

    @property
    def pooled(self) -> Tensor:
        """The mean over the tokens that are not padding: [B,D]."""
        return pool(self.x, self.tokens.document)


@dataclass(frozen=True)
class Output:
    """What one forward gives: hidden states by stream, and by term either scores or predictions."""

    streams: Mapping[str, TowerOutput]
    scores: Mapping[str, Tensor]  # term -> [B,S] unreduced loss in nats, of each `Score`
    predictions: Mapping[str, Tensor]  # term -> [B,S,...], of each `Predict`
    aux_losses: Mapping[str, Tensor] = field(default_factory=dict)  # term -> [B] of the towers


def pool(x: Tensor, document: Tensor | None) -> Tensor:
    """Compute the mean of x [B,T,D] over the tokens that are not padding: [B,D]."""
    if document is None:
        return x.mean(dim=1)
    keep = (document >= 0).to(x.dtype).unsqueeze(-1)
    return (x * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)


def positions(grid: tuple[int, ...]) -> Tensor:
    """Return the positions of one record as (time, row, column): [N,3], N the product of `grid`.

    A line runs along the diagonal (i,i,i), which makes the three-axis rotary embedding the ordinary
    one; a plane spans (row, column), a volume all three.
    """
    if len(grid) == 1:
        return torch.arange(grid[0]).unsqueeze(-1).expand(-1, 3)
    axes = torch.meshgrid(*(torch.arange(n) for n in (1,) * (3 - len(grid)) + grid), indexing="ij")
    return torch.stack([axis.flatten() for axis in axes], dim=-1)
