"""Generation: small functions over (model, places so far).

Legend: B batch, N places, V categories, K channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Choose
from broadbase.core.view import Hidden, Read, Segment, Stream, View
from broadbase.model.model import Model
from broadbase.nn.cache import Cache


class SamplingConfig(Config):
    """How the next value is drawn; temperature 0 takes the likeliest."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 0

    def build(self) -> Sampler:
        """A sampler with its own generator."""
        return Sampler(self)


class Sampler:
    """Draws categories from logits [...,V]; repeats itself for the same seed."""

    def __init__(self, config: SamplingConfig) -> None:
        self.config = config
        self.generator = Generator().manual_seed(config.seed)

    def __call__(self, logits: Tensor) -> Tensor:
        """Categories [...], int64."""
        if self.config.temperature == 0:
            return logits.argmax(dim=-1)
        probability = restrict(logits.float(), self.config).softmax(dim=-1)
        flat = probability.flatten(0, -2).cpu()
        drawn = torch.multinomial(flat, 1, generator=self.generator)
        return drawn.view(logits.shape[:-1]).to(logits.device)


def restrict(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Logits at a temperature, minus infinity outside top-k and top-p (Holtzman et al. 2020)."""
    logits = logits / config.temperature
    if config.top_k is not None and config.top_k < logits.shape[-1]:
        floor = logits.topk(config.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if config.top_p is not None:
        ordered, index = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        drop = (before >= config.top_p).scatter(-1, index, before >= config.top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits


def generate(
    model: Model, prompt: Segment, position: Tensor, choose: Choose, tower: str = "main"
) -> Iterator[Tensor]:
    """Continue `prompt` ([B,N], whole documents, no padding), one place at a time.

    `position` [M,3] are the places that follow; yields M times the new values [B,1,...].
    """
    view = View((Stream("main", tower, (prompt,), "causal"),))
    return continued(model, view, position, choose)


@torch.inference_mode()
def continued(model: Model, view: View, position: Tensor, choose: Choose) -> Iterator[Tensor]:
    """Continue the last stream of `view` in the Space of its last segment, one place at a time.

    `position` [M,3], or [M,B,3], are the places that follow; yields M times the new values
    [B,1,...]. Keys and values are cached: each place costs one place, other streams are run once.
    """
    view = view.to(next(model.parameters()).device)
    last, before = view.streams[-1], dict[str, Hidden]()
    cache = Cache(len(model.towers[last.tower].blocks))  # type: ignore[arg-type]
    space = model.spaces[last.segments[-1].source]
    for following in position:
        told, (index, order, document) = last.segments[-1], _last(last)
        read = Read(told.source, "next", index=index)
        view = replace(view, streams=(*view.streams[:-1], replace(last, reads=(read,))))
        output = model(view, caches={last.name: cache}, before=before)
        values: Tensor = space.sample(output.predictions["next"], choose)  # type: ignore[operator]
        yield values
        place = following.to(values.device).reshape(-1, 1, 3).expand(len(values), 1, 3)
        after = Segment(told.source, values, place, None if order is None else order + 1, document)
        last = replace(last, segments=(after,))
        view, before = View((last,)), dict(output.streams)


def _last(stream: Stream) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Where in memory each row ends, by the order of its places; its order and document there:
    [B,1] each, the latter None where the stream says neither."""
    orders = [s.order for s in stream.segments if s.order is not None]
    documents = [s.document for s in stream.segments if s.document is not None]
    if not orders or not documents:
        place = stream.segments[-1].position
        end = sum(segment.position.shape[1] for segment in stream.segments) - 1
        return torch.full((len(place), 1), end, device=place.device), None, None
    order, document = torch.cat(orders, dim=1), torch.cat(documents, dim=1)
    index = order.masked_fill(document < 0, -1).argmax(dim=1, keepdim=True)
    return index, order.gather(1, index), document.gather(1, index)
