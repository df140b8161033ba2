"""One token after another, each with its probability and what the base would have said instead.

Legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broadbase.core.codec import Codec
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import SampleFn
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.decoding import CUT, is_end
from broadbase.inference.documents import must_fit
from broadbase.inference.interleave import following, furthest
from broadbase.inference.prompting import Prompting
from broadbase.inference.request import Prompt

ALTERNATIVES = 5  # the likeliest tokens that are listed


@dataclass(frozen=True)
class Guess:
    """A token and its probability, at temperature 1 and before top-k and top-p."""

    text: str
    probability: float


@dataclass(frozen=True)
class Streamed:
    """A token of an output as it is generated."""

    text: str  # what it adds to the output; nothing until a character is complete, or at the end
    guess: Guess
    alternatives: tuple[Guess, ...]  # the likeliest, this one maybe among them
    ends: bool = False  # whether it ends the output


@dataclass(frozen=True, repr=False)
class Streaming(Prompting):
    """A base's output while it is generated."""

    def stream(
        self,
        prompt: Prompt,
        *,
        modality: str | None = None,
        max_new_tokens: int = 64,
        sampling: SamplingConfig | None = None,
        alternatives: int = ALTERNATIVES,
    ) -> Iterator[Streamed]:
        """Yield the tokens that `generate` of the same arguments makes, up to the end.

        Only of outputs that are ids. Errors are those of `generate_request`, before the first.
        """
        generator = self._generator()
        space, codec = self.codec(self._generated(modality))
        if codec.start.ndim or space in self.usage.grids:
            raise ConfigError(f"{space!r} has no tokens to be streamed; use `generate`")
        start, view = self._started(space, [prompt])
        last = view.streams[-1]
        must_fit(space, self.config.max_length(space), furthest(last), max_new_tokens)
        noted = Noted((sampling or SamplingConfig()).build())
        before = start.values[0].cpu().numpy()
        steps = generator.values(self.model, view, following(last, max_new_tokens), noted)
        return spelled(codec, before, ((int(ids[0, 0]), noted.probability) for ids in steps),
                       alternatives)  # fmt: skip


class Noted:
    """A sampler that keeps the probabilities [V] from which it drew last."""

    def __init__(self, sample: SampleFn) -> None:
        self.sample = sample
        self.probability = torch.empty(0)

    def __call__(self, logits: Tensor) -> Tensor:
        """Draw from logits [1,1,V]."""
        self.probability = logits.float().reshape(-1).softmax(dim=-1).cpu()
        return self.sample(logits)


def spelled(
    codec: Codec,
    before: NDArray[Any],
    drawn: Iterator[tuple[int, Tensor]],
    alternatives: int = ALTERNATIVES,
) -> Iterator[Streamed]:
    """Yield the tokens of ids that follow `before`, each drawn from probabilities [V]."""
    ids: list[int] = []
    text = ""
    for token, probability in drawn:
        top = probability.topk(min(alternatives, len(probability)))
        others = tuple(
            Guess(token_text(codec, before, int(i)), float(p))
            for p, i in zip(top.values, top.indices, strict=True)
        )
        guess = Guess(token_text(codec, before, token), float(probability[token]))
        if is_end(codec, np.array(token)):
            yield Streamed("", guess, others, ends=True)
            return
        ids.append(token)
        longer = str(codec.continuation(before, np.array(ids)))
        complete = longer.rstrip(CUT)
        new = complete[len(text) :] if complete.startswith(text) else ""
        text += new
        yield Streamed(new, guess, others)


def token_text(codec: Codec, before: NDArray[Any], token: int) -> str:
    """Return how a token is written after others; its name where it is special or a part."""
    if is_end(codec, np.array(token)):
        return "(end)"
    alone = codec.continuation(before, np.array([token]))
    text = alone if isinstance(alone, str) else ", ".join(map(str, alone))
    return text if text and CUT not in text else codec.id_to_token(token)
