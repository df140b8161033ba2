"""The Model: Spaces, towers and connectors, and the one forward that uses their parameters.

Legend: B batch, N tokens of a segment, T tokens of a stream, S tokens of a readout, D width.
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
from broadbase.core.loss import TermWeight
from broadbase.core.spaces import Embedder, Head, HeadConfig, Space
from broadbase.core.trees import brief
from broadbase.core.view import (
    MaskedSegment,
    Output,
    Predict,
    Score,
    Segment,
    Stream,
    StreamSegment,
    Tokens,
    TowerOutput,
    View,
)
from broadbase.model.streams import (
    add_terms,
    check_length,
    join_tokens,
    layer_states,
    readout_states,
    token_count,
    weighted_sums,
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
    def _sizes_fit(self) -> Self:
        heads = {}
        for name, head in self.heads.items():
            try:
                heads[name] = head.sized(self.vector_sizes)
            except ValueError as error:
                raise ValueError(f"heads.{name}.{error}") from None
        object.__setattr__(self, "heads", heads)
        return self

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
    def vector_sizes(self) -> dict[str, int]:
        """The numbers of a token's vector, by modality."""
        sizes = ((name, modality.vector_size) for name, modality in self.modalities.items())
        return {name: size for name, size in sizes if size is not None}

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
        """Build the model with PyTorch's own initial parameters; `initialise` or load them next."""
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
        by_layer = self._read_by_layer(view, towers)
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
                layers=layers or stream.name in by_layer,
            )
            streams[stream.name] = hidden
            add_terms(aux, stream.tower, hidden.aux_losses)
            for read in stream.readouts:
                head = self.head(read.head)
                x_BSD = readout_states(hidden, read, head)
                match read:
                    case Predict():
                        predictions[read.term] = head.predict(x_BSD)
                    case Score():
                        scores[read.term], losses = head.score_with_aux(x_BSD, read.target)
                        add_terms(aux, read.head, weighted_sums(losses, read))
        return Output(streams, scores, predictions, aux)

    def aux_loss_weights(self, views: Sequence[View]) -> dict[str, TermWeight]:
        """Return weight and scale of the auxiliary losses of these views, before any forward.

        A row of a tower counts 1, a token of a connector 1, a scored token its `loss_weight`.
        """
        weights: dict[str, TermWeight] = {}

        def count(part: str, scales: Mapping[str, float], weight: float) -> None:
            for name, scale in scales.items():
                term = f"{part}/{name}"
                before = weights[term].weight if term in weights else 0.0
                weights[term] = TermWeight(before + weight, scale)

        for view in (view for view in views if not view.teacher):
            towers = {stream.name: stream.tower for stream in view.streams}
            for stream in view.streams:
                tower = self._part(self.towers, "tower", stream.tower)
                count(stream.tower, tower.aux_loss_weights, view.size)
                for segment in stream.stream_segments:
                    name, connector = self._connector(segment, stream, towers)
                    count(name, connector.aux_loss_weights, token_count(segment))
                for score in stream.scored:
                    scales = self.head(score.head).aux_loss_weights
                    count(score.head, scales, float(score.loss_weight.sum()))
        return weights

    def update_statistics(self, add: Callable[[Tensor], Tensor]) -> None:
        """Let connectors take up the statistics of a step, after its last forward.

        `add` sums a tensor over the ranks.
        """
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
        """Return the input [B,T,D] of a stream, and what attention may know of its tokens.

        The auxiliary losses of connectors are added to `aux`.
        """
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
                    states = layer_states(streams[segment.stream], connector.layers)
                    x_BND, losses = connector(states, segment.document)
                    parts.append(x_BND)
                    check_length(name, x_BND, segment)
                    add_terms(aux, name, losses)
        x_BTD = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return x_BTD, join_tokens(stream.segments)

    def _read_by_layer(self, view: View, towers: Mapping[str, str]) -> set[str]:
        """Return the streams of which a connector reads the states of several layers."""
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
