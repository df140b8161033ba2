"""Who sees whom: mask functions over order and document, never over places in memory.

Legend: B batch, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from broadbase.core.view import Tokens

Pattern = Callable[[Tensor, Tensor], Tensor]  # orders [B,Q,1] and [B,1,K] to allowed [B,Q,K]

PATTERNS: dict[str, Pattern] = {
    "full": lambda q, k: torch.ones_like(q >= k),
    "causal": lambda q, k: q >= k,
}


@dataclass(frozen=True)
class Mask:
    """What scaled_dot_product_attention takes: a table, or the fast causal path, or nothing."""

    allowed: Tensor | None  # [B,1,Q,K] bool
    causal: bool = False


def mask(pattern: str, queries: Tokens, keys: Tokens) -> Mask:
    """The mask of `pattern` between queries and keys; packed documents do not see each other.

    Whole single documents in memory order need no table. Padding (document -1) sees padding, so
    that no row of the softmax is empty; nothing reads it.
    """
    same_length = queries.position.shape[1] == keys.position.shape[1]
    plain = keys.order is None and keys.document is None
    if plain and (pattern == "full" or same_length):
        return Mask(None, causal=pattern == "causal")
    q_BQ1, k_B1K = _order(queries, keys).unsqueeze(-1), _order(keys, keys).unsqueeze(-2)
    allowed = PATTERNS[pattern](q_BQ1, k_B1K)
    if keys.document is not None and queries.document is not None:
        allowed = allowed & (queries.document.unsqueeze(-1) == keys.document.unsqueeze(-2))
    return Mask(allowed.unsqueeze(1))


def _order(tokens: Tokens, keys: Tokens) -> Tensor:
    if tokens.order is not None:
        return tokens.order
    n, end = tokens.position.shape[1], keys.position.shape[1]
    return torch.arange(end - n, end, device=tokens.position.device).unsqueeze(0)
