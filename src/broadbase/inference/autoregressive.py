"""Generation: small functions over (model, tokens so far).

Legend: B batch, N tokens, V categories, K channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
LIKELIEST = 1024  # logits that are sorted first where only some are sampled from
DAMAGED = (
    "the model predicts numbers that are not finite (NaN or infinity): its weights are damaged, or"
    " too large for the type they are stored in"
)


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

    def generator(self, request: int = 0) -> Generator:
        """Return the random stream of a request: of seed + 1,000,003 times its number."""
        return Generator().manual_seed(self.seed + STRIDE * request)

    @property
    def distribution(self) -> tuple[float, int | None, float | None]:
        """All but the seed: rows that share it can be drawn together."""
        return self.temperature, self.top_k, self.top_p


class Sampler:
    """Draws categories from logits [B,...,V]; repeats itself for the same seed.

    Each request has a generator of its own, so that it is the same whatever is drawn with it.
    """

    def __init__(self, config: SamplingConfig, first: int = 0) -> None:
        """Start with row 0 as request `first`."""
        self.config, self.first = config, first
        self.generators: list[Generator] = []

    def __call__(self, logits: Tensor) -> Tensor:
        """Return categories [B,...], int64, sampled from logits [B,...,V].

        DataError where a row has logits that are not finite.
        """
        if not bool(is_finite(logits).all()):
            raise DataError(DAMAGED)
        for i in range(len(self.generators), len(logits)):
            self.generators.append(self.config.generator(self.first + i))
        return draw(logits, self.config, self.generators[: len(logits)])


def is_finite(logits: Tensor) -> Tensor:
    """Return whether logits [...,V] can be drawn from, [...]; of NaN, too, the largest is NaN."""
    return logits.amax(dim=-1).isfinite()


def draw(logits: Tensor, config: SamplingConfig, generators: Sequence[Generator]) -> Tensor:
    """Return categories [B,...], int64, sampled from finite logits [B,...,V], row i by generator i.

    A category is the first one whose cumulative probability exceeds a uniform number, so that all
    rows are drawn at once.
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    probability = restrict(logits.float(), config).softmax(dim=-1)
    total = probability.cumsum(dim=-1, dtype=torch.float64)
    shape = (*logits.shape[1:-1], 1)
    uniform = torch.stack(
        [torch.rand(shape, dtype=torch.float64, generator=each) for each in generators]
    )
    threshold = uniform.to(total.device) * (1 - 2**-52) * total[..., -1:]  # below the total
    return torch.searchsorted(total, threshold, right=True).squeeze(-1)


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
        logits = logits.masked_fill(logits < _nucleus(logits, config.top_p), -torch.inf)
    return logits


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Return the smallest of the largest logits that together have a probability, [...,1].

    They are mostly few, so that not all logits are sorted.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)

    def kept(largest: Tensor) -> Tensor:
        probability = (largest - total).exp()
        return probability.cumsum(dim=-1) - probability < top_p

    largest = logits.topk(min(LIKELIEST, logits.shape[-1]), dim=-1).values
    if bool(kept(largest)[..., -1].any()):
        largest = logits.sort(dim=-1, descending=True).values
    return largest.gather(-1, kept(largest).sum(dim=-1, keepdim=True) - 1)


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
