"""How likely a base holds given tokens to be.

Legend: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from broadbase.core.view import Predict, Segment
from broadbase.inference.base import Base
from broadbase.inference.documents import must_fit
from broadbase.inference.embedding import ROWS
from broadbase.inference.linear import packed


def prompt_ids(base: Base, text: str | None, modality: str | None = None) -> tuple[int, ...]:
    """Return the ids of a prompt as `generate` reads it, with those before a record.

    Special tokens may be written in it. DataError where the base cannot read it.
    """
    space = base.codec(modality)[0]
    return tuple(base._begun(space, [text]).values[0].tolist())


@torch.inference_mode()
def prompt_logprobs(
    base: Base, ids: Sequence[int], top: int = 0, modality: str | None = None
) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
    """Return the log-probability of each id but the first, with the `top` likeliest there.

    Natural logarithms, at temperature 1. DataError where the ids do not fit the base.
    """
    space = base.codec(modality)[0]
    must_fit(space, base.config.max_length(space), len(ids))
    view = base._view(space, _segment(base, space, ids), (Predict(space, "logits"),))
    logits_TV = packed(base.model, ROWS)(view).predictions["logits"][0]
    return [likeliest(logits_TV[i], ids[i + 1], top) for i in range(len(ids) - 1)]


def likeliest(
    logits_V: Tensor, token: int, top: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the log-probability of a token, and the `top` likeliest tokens with theirs."""
    logprob_V = logits_V.float().log_softmax(dim=-1)
    best = logprob_V.topk(min(top, len(logprob_V)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return float(logprob_V[token]), tuple(pairs)


@torch.inference_mode()
def token_states(
    base: Base, ids: Sequence[int], modality: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the hidden states that predict each id but the first [T-1,D], and what they predict.

    That is the log-probability of every id, [T-1,V]. DataError where the ids do not fit the base.
    """
    space = base.codec(modality)[0]
    must_fit(space, base.config.max_length(space), len(ids))
    view = base._view(space, _segment(base, space, ids), (Predict(space, "logits"),))
    output = packed(base.model, ROWS)(view)
    logprob_TV = output.predictions["logits"][0, :-1].float().log_softmax(dim=-1)
    return output.streams["main"].x[0, :-1].float(), logprob_TV


def _segment(base: Base, space: str, ids: Sequence[int]) -> Segment:
    """Return ids as a document of one row."""
    device = next(base.model.parameters()).device
    line_T = torch.arange(len(ids), device=device)
    values_1T = torch.tensor([[*ids]], device=device)
    return Segment(space, values_1T, line_T[None, :, None].expand(1, -1, 3))
