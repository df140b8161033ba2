"""Generation: small functions over (model, places so far).

Legend: B batch, N places, V categories, K channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from broadbase.core.config import Config
from broadbase.core.view import Read, Segment, Stream, View
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


@torch.inference_mode()
def generate(
    model: Model, prompt: Segment, position: Tensor, choose: Sampler, tower: str = "main"
) -> Iterator[Tensor]:
    """Continue `prompt` ([B,N], whole documents, no padding), one place at a time.

    `position` [M,3] are the places that follow; yields M times the new values [B,1,...]. Keys and
    values are cached: each place costs one place.
    """
    cache = Cache(len(model.towers[tower].blocks))  # type: ignore[arg-type]
    device = next(model.parameters()).device
    segment = prompt.to(device)
    space = model.spaces[prompt.source]
    for following in position:
        read = Read(prompt.source, "next", index=_last(segment))
        view = View((Stream("main", tower, (segment,), "causal", reads=(read,)),))
        prediction = model(view, caches={"main": cache}).predictions["next"]
        values: Tensor = space.sample(prediction, choose)  # type: ignore[operator]
        yield values
        place = following.to(device).expand(values.shape[0], 1, 3)
        segment = Segment(prompt.source, values, place)


def _last(segment: Segment) -> Tensor:
    B, N, _ = segment.position.shape
    return torch.full((B, 1), N - 1, device=segment.position.device)
