"""The Model: Spaces, towers and connectors, and the one forward that uses their parameters.

Legend: B batch, N places of a segment, T places of a stream, S scored places, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import ModalityConfig, Space, Tower, TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.core.loss import Share
from broadbase.core.view import Hidden, Output, Read, Segment, Stream, Tokens, View, pool
from broadbase.nn.cache import Cache


class ModelConfig(Config):
    """What the model is made of; a Space speaks the width of the tower it is `at`."""

    modalities: dict[str, ModalityConfig]
    towers: Annotated[dict[str, TowerConfig], Field(min_length=1)]
    at: dict[str, str] = Field(
        default_factory=dict
    )  # Space -> tower; unnamed Spaces belong to the first tower
    connectors: tuple[tuple[str, str], ...] = ()  # (stream's tower, tower it feeds)

    def build(self) -> Model:
        """The model, its parameters as PyTorch made them: `initialise` or load them next."""
        return Model(self)


class Model(nn.Module):
    """One forward for every objective and modality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first = next(iter(config.towers))
        self.towers = nn.ModuleDict({k: tower.build() for k, tower in config.towers.items()})
        self.spaces = nn.ModuleDict(
            {
                name: modality.space(config.towers[config.at.get(name, first)].width)
                for name, modality in config.modalities.items()
            }
        )
        self.connectors = nn.ModuleDict(
            {
                f"{a}>{b}": nn.Linear(config.towers[a].width, config.towers[b].width)
                for a, b in config.connectors
            }
        )

    def forward(
        self, view: View, *, caches: Mapping[str, Cache] | None = None, layers: bool = False
    ) -> Output:
        """Run the streams in order; score every Read that has targets, predict every other."""
        streams: dict[str, Hidden] = {}
        towers: dict[str, str] = {}
        scores: dict[str, Tensor] = {}
        predictions: dict[str, Tensor] = {}
        charges: dict[str, Tensor] = {}
        for stream in view.streams:
            x_BTD, tokens = self._embed(stream, streams, towers)
            tower: Tower = self._part(self.towers, "tower", stream.tower)
            hidden = tower(
                x_BTD,
                tokens,
                stream.pattern,
                context=streams[stream.context] if stream.context else None,
                cache=caches[stream.name] if caches else None,
                layers=layers,
            )
            streams[stream.name], towers[stream.name] = hidden, stream.tower
            for read in stream.reads:
                space: Space = self._part(self.spaces, "Space", read.space)
                x_BSD = _read(hidden, read)
                if read.values is None:
                    predictions[read.term] = space.predict(x_BSD)
                else:
                    scores[read.term] = space.score(x_BSD, read.values)
                    _charge(charges, space, read)
        return Output(streams, scores, predictions, charges | _charges(streams, towers))

    def penalties(self, views: Sequence[View]) -> dict[str, Share]:
        """Weight and scale of what towers and Spaces charge themselves in these views."""
        found: dict[str, Share] = {}
        for view in views:
            for stream in view.streams:
                tower = self._part(self.towers, "tower", stream.tower)
                for name, scale in tower.penalties.items():
                    term = f"{stream.tower}/{name}"
                    weight = found[term].weight if term in found else 0.0
                    found[term] = Share(weight + view.size, scale)
                for read in (read for read in stream.reads if read.values is not None):
                    for name, scale in getattr(self.spaces[read.space], "penalties", {}).items():
                        assert read.weight is not None
                        term = f"{read.space}/{name}"
                        weight = found[term].weight if term in found else 0.0
                        found[term] = Share(weight + float(read.weight.sum()), scale)
        return found

    def _embed(
        self, stream: Stream, streams: Mapping[str, Hidden], towers: Mapping[str, str]
    ) -> tuple[Tensor, Tokens]:
        parts = [self._embed_segment(s, stream.tower, streams, towers) for s in stream.segments]
        x_BTD = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        segments = stream.segments
        return x_BTD, Tokens(
            position=torch.cat([s.position for s in segments], dim=1),
            order=_join([s.order for s in segments]),
            document=_join([s.document for s in segments]),
            part=_join([s.part for s in segments]),
        )

    def _embed_segment(
        self, segment: Segment, tower: str, streams: Mapping[str, Hidden], towers: Mapping[str, str]
    ) -> Tensor:
        if segment.source.startswith("@"):
            name = segment.source[1:]
            connector = self._part(self.connectors, "connector", f"{towers[name]}>{tower}")
            x_BND: Tensor = connector(streams[name].x)
            return x_BND
        assert segment.values is not None, "a segment of a Space has values"
        space: Space = self._part(self.spaces, "Space", segment.source)
        return space.embed(segment.values, segment.hidden)

    def _part(self, parts: nn.ModuleDict, kind: str, name: str) -> Any:
        if name not in parts:
            raise ConfigError(f"the model has no {kind} {name!r}; it has: {', '.join(parts)}")
        return parts[name]


def _charge(charges: dict[str, Tensor], space: Any, read: Read) -> None:
    """Add what a Space charges for the places of a Read."""
    for name, charge_BS in getattr(space, "charges", dict)().items():
        term = f"{read.space}/{name}"
        total_B = (charge_BS * read.weight).sum(dim=1)
        charges[term] = charges[term] + total_B if term in charges else total_B


def _charges(streams: Mapping[str, Hidden], towers: Mapping[str, str]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for stream, hidden in streams.items():
        for name, charge_B in hidden.penalties.items():
            term = f"{towers[stream]}/{name}"
            totals[term] = totals[term] + charge_B if term in totals else charge_B
    return totals


def _read(hidden: Hidden, read: Read) -> Tensor:
    if read.pooled:
        return pool(hidden.x, hidden.tokens.document).unsqueeze(1)
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
