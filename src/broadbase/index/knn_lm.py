"""A nearest-neighbour language model: a base that looks up what followed in other texts.

Khandelwal et al. 2020, "Generalization through Memorization: Nearest Neighbor Language Models". The
datastore has a key for each token of some texts, the hidden state that predicts it. The tokens of
the nearest keys are a second distribution; nothing is trained.

Legend: N tokens of the datastore, T tokens, D width, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.documents import opening
from broadbase.inference.likelihood import token_states

BLOCK = 256  # queries that are compared with all keys at once
LONGEST = 1024  # tokens of a window


class Predicted(NamedTuple):
    """The tokens of some text, as a base predicts them."""

    keys: Tensor  # [T,D], the hidden states before them
    tokens: Tensor  # [T]
    logprobs: Tensor  # [T], of the base


class Neighbours(NamedTuple):
    """The nearest keys of some tokens."""

    distances: Tensor  # [T,K], squared
    tokens: Tensor  # [T,K]


def predicted(base: Base, texts: Iterable[str], modality: str | None = None) -> Predicted:
    """Return every token of some texts with its key and its likelihood under a causal base.

    A text that is longer than the base reads is read in windows that share a token.
    """
    space, codec = base.codec(modality)
    if base.attention_pattern(space) != "causal":
        raise ConfigError("a nearest-neighbour language model needs a base with causal attention")
    clean, rows = base.config.modalities[space].clean, list[Predicted]()
    most = int(min(base.config.max_length(space), LONGEST))
    for text in texts:
        ids = [*opening(codec).tolist(), *codec.encode(clean(text)).values.tolist()]
        for window in _windows(ids, most):
            keys, logprobs = token_states(base, window, space)
            tokens = torch.tensor(window[1:])
            rows.append(Predicted(keys, tokens, logprobs.gather(1, tokens[:, None])[:, 0]))
    return Predicted(*(torch.cat(column) for column in zip(*rows, strict=True)))


def nearest(store: Predicted, queries: Tensor, k: int) -> Neighbours:
    """Return the k nearest keys of a datastore to each query [T,D], by exact search."""
    norms = store.keys.square().sum(dim=1)
    distances, tokens = list[Tensor](), list[Tensor]()
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        squared = norms - 2 * (block @ store.keys.T) + block.square().sum(dim=1, keepdim=True)
        close = squared.topk(min(k, len(norms)), dim=1, largest=False)
        distances.append(close.values.clamp(min=0))
        tokens.append(store.tokens[close.indices])
    return Neighbours(torch.cat(distances), torch.cat(tokens))


def interpolated(
    text: Predicted, neighbours: Neighbours, weight: float, temperature: float
) -> Tensor:
    """Return the log-probability of each token [T] under both distributions (equation 3).

    A neighbour counts exp(-distance / temperature), and all together have `weight`.
    """
    share = (-neighbours.distances / temperature).softmax(dim=1)
    same = neighbours.tokens == text.tokens[:, None]
    likelihood = (share * same).sum(dim=1).double()
    return (weight * likelihood + (1 - weight) * text.logprobs.double().exp()).log()


def _windows(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Yield parts of at most `most` ids that share one, so that each but the first is predicted."""
    for start in range(0, max(1, len(ids) - 1), most - 1):
        if len(part := ids[start : start + most]) > 1:
            yield part
