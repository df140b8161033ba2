"""Generation: small functions over (model, tokens so far).

Legend: B batch, N tokens, V categories, K channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from broadbase.core.config import Config
from broadbase.core.errors import DataError
from broadbase.core.spaces import SampleFn
from broadbase.core.usage import GeneratorConfig
from broadbase.core.view import Predict, Segment, Stream, TowerOutput, View
from broadbase.inference.linear import packed
from broadbase.model.model import Model
from broadbase.nn.cache import Cache

STRIDE = 1_000_003  # between the seeds of two requests


class SamplingConfig(Config):
    """How the next value is drawn; temperature 0 takes the likeliest."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """What logits are divided by before sampling; 0: the most likely value is taken."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """How many of the most likely values are sampled from; null: all."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """The most likely values that together have this probability are sampled from; null: all."""
    seed: int = 0
    """The seed of sampling; every request has a random stream of its own."""

    def build(self, first: int = 0) -> Sampler:
        """Return a sampler with generators of its own, whose row 0 is request `first`."""
        return Sampler(self, first)


class Sampler:
    """Draws categories from logits [B,...,V]; repeats itself for the same seed.

    Request i is drawn by seed + 1,000,003 i whatever is drawn with it, so the first (or only) one
    by the seed itself.
    """

    def __init__(self, config: SamplingConfig, first: int = 0) -> None:
        """Start with row 0 as request `first`."""
        self.config, self.first = config, first
        self.generators: list[Generator] = []

    def __call__(self, logits: Tensor) -> Tensor:
        """Return categories [B,...], int64, sampled from logits [B,...,V]."""
        if not bool(logits.amax(dim=-1).isfinite().all()):  # of NaN, too, the largest is NaN
            raise DataError(
                "the model predicts numbers that are not finite (NaN or infinity): its weights are"
                " damaged, or too large for the type they are stored in"
            )
        if self.config.temperature == 0:
            return logits.argmax(dim=-1)
        probability = restrict(logits.float(), self.config).softmax(dim=-1)
        rows = probability.reshape(len(logits), -1, logits.shape[-1]).cpu()
        for i in range(len(self.generators), len(rows)):
            seed = self.config.seed + STRIDE * (self.first + i)
            self.generators.append(Generator().manual_seed(seed))
        drawn = [
            torch.multinomial(row, 1, generator=chance)
            for row, chance in zip(rows, self.generators, strict=False)
        ]
        return torch.stack(drawn).view(logits.shape[:-1]).to(logits.device)


def restrict(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Return logits at a temperature, minus infinity outside top-k and top-p.

    Source: Holtzman et al. 2020.
    """
    logits = logits - logits.amax(dim=-1, keepdim=True)  # so that no temperature is too low
    logits = logits / max(config.temperature, torch.finfo(logits.dtype).tiny)
    if config.top_k is not None and config.top_k < logits.shape[-1]:
        floor = logits.topk(config.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if config.top_p is not None:
        ordered, index = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        drop = (before >= config.top_p).scatter(-1, index, before >= config.top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    return logits


class AutoregressiveConfig(GeneratorConfig):
    """One token after another, each sampled from what the model predicts after those before."""

    name: Literal["autoregressive"] = "autoregressive"
    attention: ClassVar[str] = "causal"

    def values(
        self, model: Model, view: View, positions: Iterable[Tensor], sample: SampleFn
    ) -> Iterator[Tensor]:
        """Continue the last stream of `view`; yield the values of one token [B,1,...] at a time."""
        return continued(model, view, positions, sample)


def generate(
    model: Model, prompt: Segment, position: Iterable[Tensor], choose: SampleFn, tower: str = "main"
) -> Iterator[Tensor]:
    """Continue `prompt` ([B,N], documents from their start, no padding), one token at a time.

    `position`, M times [3], are those that follow; yields M times the new values [B,1,...].
    """
    view = View((Stream("main", tower, (prompt,), "causal"),))
    return continued(model, view, position, choose)


@torch.inference_mode()
def continued(
    model: Model, view: View, position: Iterable[Tensor], choose: SampleFn
) -> Iterator[Tensor]:
    """Continue the last stream of `view` in the Space of its last segment, one token at a time.

    `position`, M times [3] or [B,3], are those that follow; yields M times the new values
    [B,1,...]. Keys and values are cached: each token costs one token, other streams are run once.
    """
    model = packed(model)
    view = view.to(next(model.parameters()).device)
    last, before = view.streams[-1], dict[str, TowerOutput]()
    cache = Cache(len(model.towers[last.tower].blocks))  # type: ignore[arg-type]
    source, (index, order, document) = last.value_segments[-1].space, _last(last)
    head, reads = model.head(source), (Predict(source, "next", index=index),)
    view = replace(view, streams=(*view.streams[:-1], replace(last, readouts=reads)))
    for following in position:
        output = model(view, caches={last.name: cache}, before=before)
        values: Tensor = head.sample(output.predictions["next"], choose)
        yield values
        position = following.to(index.device).reshape(-1, 1, 3).expand(len(values), 1, 3)
        order = None if order is None else order + 1
        token = Segment(source, values, position, order, document)
        last = replace(last, segments=(token,), readouts=(Predict(source, "next"),))
        view, before = View((last,)), dict(output.streams)


def _last(stream: Stream) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the index in memory where each row ends in the order of its tokens: [B,1].

    Its order and document there follow, [B,1] each, None where the stream has neither.
    """
    orders = [s.order for s in stream.segments if s.order is not None]
    documents = [s.document for s in stream.segments if s.document is not None]
    if not orders or not documents:
        position = stream.segments[-1].position
        end = sum(segment.position.shape[1] for segment in stream.segments) - 1
        return torch.full((len(position), 1), end, device=position.device), None, None
    order, document = torch.cat(orders, dim=1), torch.cat(documents, dim=1)
    index = order.masked_fill(document < 0, -1).argmax(dim=1, keepdim=True)
    return index, order.gather(1, index), document.gather(1, index)
