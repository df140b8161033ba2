"""The Model: Spaces, towers and connectors, and the one forward that uses their parameters.

Legend: B batch, N tokens of a segment, T tokens of a stream, S scored tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from broadbase.core.config import Config, hint
from broadbase.core.contracts import ModalityConfig, Tower, TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses, TermWeight
from broadbase.core.spaces import Embedder, Head, HeadConfig, Space
from broadbase.core.trees import brief
from broadbase.core.view import (
    MaskedSegment,
    Output,
    Predict,
    Readout,
    Score,
    Segment,
    Stream,
    StreamSegment,
    Tokens,
    TowerOutput,
    View,
)
from broadbase.nn.cache import Cache
from broadbase.nn.connector import Connector, ConnectorConfig


class ModelConfig(Config):
    """The parts of a model: the Spaces of modalities, heads, towers, connectors of towers."""

    modalities: dict[str, ModalityConfig]
    """The modalities by name."""
    heads: dict[str, HeadConfig] = Field(default_factory=dict)
    """The heads by name that no source of data feeds, such as the pixels of a decoder."""
    towers: Annotated[dict[str, TowerConfig], Field(min_length=1)]
    """The towers by name."""
    tower_of: dict[str, str] = Field(default_factory=dict)
    """The tower of a modality or a head; those that are not named belong to the first tower."""
    connectors: tuple[ConnectorConfig, ...] = ()
    """The connectors between two towers, at most one each way."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if both := self.modalities.keys() & self.heads.keys():
            raise ValueError(
                f"heads.{min(both)}: a modality is called so too; give the head another name"
            )
        named = [(f"tower_of.{space}", tower) for space, tower in self.tower_of.items()]
        for i, c in enumerate(self.connectors):
            named += [(f"connectors.{i}.source", c.source), (f"connectors.{i}.target", c.target)]
        for field, tower in named:
            if tower not in self.towers:
                raise ValueError(
                    f"{field}: no tower is called {brief(tower)}{hint(tower, self.towers)}"
                )
        return self

    @property
    def spaces(self) -> dict[str, ModalityConfig | HeadConfig]:
        """All modalities and heads by name, the modalities first."""
        return {**self.modalities, **self.heads}

    def tower(self, space: str) -> TowerConfig:
        """Return the tower of a modality or a head."""
        return self.towers[self.tower_of.get(space, next(iter(self.towers)))]

    def max_length(self, space: str) -> float:
        """Return the most positions of a row of a Space, by the positions of its tower."""
        return self.tower(space).max_length

    def build(self) -> Model:
        """The model, its parameters as PyTorch made them: `initialise` or load them next."""
        return Model(self)


class Model(nn.Module):
    """One forward for every objective and modality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({k: tower.build() for k, tower in config.towers.items()})
        spaces = {
            name: modality.space(config.tower(name).width)
            for name, modality in config.modalities.items()
        }
        heads = {name: head.build(config.tower(name).width) for name, head in config.heads.items()}
        self.spaces = nn.ModuleDict(spaces | heads)
        self.connectors = nn.ModuleDict(
            {
                f"{c.source}>{c.target}": c.build(
                    config.towers[c.source].width, config.towers[c.target].width
                )
                for c in config.connectors
            }
        )

    def forward(
        self,
        view: View,
        *,
        caches: Mapping[str, Cache] | None = None,
        before: Mapping[str, TowerOutput] | None = None,
        layers: bool = False,
    ) -> Output:
        """Run the streams in order; score and predict what their readouts name.

        Generating, `caches` has what a stream has read, and `before` streams that it attends to.
        """
        streams: dict[str, TowerOutput] = dict(before or {})
        towers = {stream.name: stream.tower for stream in view.streams}
        joined = self._joined(view, towers)
        scores: dict[str, Tensor] = {}
        predictions: dict[str, Tensor] = {}
        aux: dict[str, Tensor] = {}
        for stream in view.streams:
            x_BTD, tokens = self._embed(stream, streams, towers, aux)
            tower: Tower = self._part(self.towers, "tower", stream.tower)
            hidden = tower(
                x_BTD,
                tokens,
                stream.pattern,
                context=streams[stream.context] if stream.context else None,
                condition=self._condition(stream),
                cache=caches.get(stream.name) if caches else None,
                layers=layers or stream.name in joined,
            )
            streams[stream.name] = hidden
            _add(aux, stream.tower, hidden.aux_losses)
            for read in stream.readouts:
                head = self.head(read.head)
                x_BSD = _read(hidden, read, head)
                match read:
                    case Predict():
                        predictions[read.term] = head.predict(x_BSD)
                    case Score():
                        scores[read.term], losses = head.score_with_aux(x_BSD, read.target)
                        _add(aux, read.head, _weighted(losses, read))
        return Output(streams, scores, predictions, aux)

    def aux_loss_weights(self, views: Sequence[View]) -> dict[str, TermWeight]:
        """Return weight and scale of the auxiliary losses of these views, before any forward.

        A row of a tower counts 1, a token of a connector 1, a scored token its `loss_weight`.
        """
        found: dict[str, TermWeight] = {}

        def count(part: str, scales: Mapping[str, float], weight: float) -> None:
            for name, scale in scales.items():
                term = f"{part}/{name}"
                before = found[term].weight if term in found else 0.0
                found[term] = TermWeight(before + weight, scale)

        for view in (view for view in views if not view.teacher):
            towers = {stream.name: stream.tower for stream in view.streams}
            for stream in view.streams:
                tower = self._part(self.towers, "tower", stream.tower)
                count(stream.tower, tower.aux_loss_weights, view.size)
                for segment in stream.stream_segments:
                    name, connector = self._connector(segment, stream, towers)
                    count(name, connector.aux_loss_weights, _token_count(segment))
                for score in stream.scored:
                    scales = self.head(score.head).aux_loss_weights
                    count(score.head, scales, float(score.loss_weight.sum()))
        return found

    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """Let the parts that keep statistics take up those of a whole step, after its last
        forward; `add` sums a tensor over the ranks."""
        for connector in self.connectors.values():
            assert isinstance(connector, Connector)
            connector.update_statistics(add)

    def _embed(
        self,
        stream: Stream,
        streams: Mapping[str, TowerOutput],
        towers: Mapping[str, str],
        aux: dict[str, Tensor],
    ) -> tuple[Tensor, Tokens]:
        parts = []
        for segment in stream.segments:
            match segment:
                case Segment():
                    parts.append(self._embedded(segment))
                case MaskedSegment():
                    shape = segment.position.shape[:2]
                    parts.append(self.space(segment.space).mask_tokens(*shape))
                case StreamSegment():
                    name, connector = self._connector(segment, stream, towers)
                    states = _states(streams[segment.stream], connector.layers)
                    x_BND, losses = connector(states, segment.document)
                    parts.append(x_BND)
                    _must_fit(name, x_BND, segment)
                    _add(aux, name, losses)
        x_BTD = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        segments = stream.segments
        return x_BTD, Tokens(
            position=segments[0].position
            if len(segments) == 1
            else torch.cat([s.position for s in segments], dim=1),
            order=_join([s.order for s in segments]),
            document=_join([s.document for s in segments]),
            token_type=_join([s.token_type for s in segments]),
            noise_level=_join([s.noise_level for s in segments]),
        )

    def _joined(self, view: View, towers: Mapping[str, str]) -> set[str]:
        """The streams of which a connector reads the states of several layers."""
        return {
            segment.stream
            for stream in view.streams
            for segment in stream.stream_segments
            if self._connector(segment, stream, towers)[1].layers
        }

    def _connector(
        self, segment: StreamSegment, stream: Stream, towers: Mapping[str, str]
    ) -> tuple[str, Any]:
        name = f"{towers[segment.stream]}>{stream.tower}"
        return name, self._part(self.connectors, "connector", name)

    def embedder(self, name: str) -> Embedder:
        """Return what embeds the values of a Space; ConfigError where it only predicts."""
        space = self.space(name)
        if not isinstance(space, Embedder):
            raise ConfigError(
                f"{name!r} is a head and embeds no values; it can read values of"
                f" {', '.join(k for k, v in self.spaces.items() if isinstance(v, Embedder))}"
            )
        return space

    def head(self, name: str) -> Head:
        """Return what predicts the values of a Space; ConfigError where it only embeds."""
        space = self.space(name)
        if not isinstance(space, Head):
            raise ConfigError(
                f"{name!r} has no output head, so it can be read but not predicted; add one"
                " (model.heads) and name it in the objective"
            )
        return space

    def space(self, name: str) -> Space:
        """Return the part of a modality or a head; ConfigError names those that there are."""
        space: Space = self._part(self.spaces, "modality or head", name)
        return space

    def _embedded(self, segment: Segment) -> Tensor:
        """Embed the values of a segment as [B,N,D]."""
        embedder = self.embedder(segment.space)
        return embedder.embed(segment.values, segment.masked, segment.document)

    def _condition(self, stream: Stream) -> Tensor | None:
        """Return the sum of the conditions of a stream, [B,1,D] or [B,T,D]; None: it has none."""
        if not stream.condition:
            return None
        first, *others = (self._embedded(segment) for segment in stream.condition)
        return sum(others, start=first)

    def _part(self, parts: nn.ModuleDict, kind: str, name: str) -> Any:
        if name not in parts:
            raise ConfigError(f"the model has no {kind} {name!r}; it has: {', '.join(parts)}")
        return parts[name]


def _states(hidden: TowerOutput, layers: tuple[int, ...]) -> Tensor:
    """What a connector reads: the last states [B,N,D], or those after several layers, joined."""
    return torch.cat([hidden.layers[i - 1] for i in layers], dim=-1) if layers else hidden.x


def _must_fit(name: str, x_BND: Tensor, segment: StreamSegment) -> None:
    given, expected = x_BND.shape[1], segment.position.shape[1]
    if given != expected:
        raise ConfigError(
            f"the connector {name} gives {given} tokens, and the stream {segment.stream!r} is read"
            f" as {expected}"
        )


def _add(aux: dict[str, Tensor], part: str, losses: AuxLosses) -> None:
    """Add the auxiliary losses of a part, [B] each, to the terms "part/name"."""
    for name, loss_B in losses.items():
        term = f"{part}/{name}"
        aux[term] = aux[term] + loss_B if term in aux else loss_B


def _weighted(losses: AuxLosses, score: Score) -> AuxLosses:
    """Sum the auxiliary losses of a head [B,S] over the scored positions: [B] each."""
    weight_BS: Tensor = score.loss_weight
    return {name: (loss_BS * weight_BS).sum(dim=1) for name, loss_BS in losses.items()}


def _token_count(segment: StreamSegment) -> float:
    """Return how many tokens of a segment are not padding."""
    document_BN, position_BN3 = segment.document, segment.position
    return float((position_BN3[..., 0] if document_BN is None else document_BN).ge(0).sum())


def _read(hidden: TowerOutput, read: Readout, head: Head) -> Tensor:
    """Return the states [B,S,D] that a head predicts from."""
    if read.pooled:
        return head.pooled(hidden.x, hidden.tokens.document).unsqueeze(1)
    if read.index is None:
        return hidden.x
    return hidden.x.gather(1, read.index.unsqueeze(-1).expand(-1, -1, hidden.x.shape[-1]))


def _join(parts: list[Tensor | None]) -> Tensor | None:
    """One tensor over all segments of a stream: all say it or none does."""
    known = [part for part in parts if part is not None]
    assert len(known) in (0, len(parts)), "order, document and part are given by all or by none"
    if not known:
        return None
    return known[0] if len(known) == 1 else torch.cat(known, dim=1)
