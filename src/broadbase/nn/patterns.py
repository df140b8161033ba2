"""Who sees whom: mask functions over order and document, never over places in memory.

Legend: B batch, Q queries, K keys.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Slot
from broadbase.core.view import Tokens

Pattern = Callable[[Tensor, Tensor], Tensor]  # orders [B,Q,1] and [B,1,K] to allowed [B,Q,K]

PATTERNS: dict[str, Pattern] = {
    "full": lambda q, k: torch.ones_like(q >= k),
    "causal": lambda q, k: q >= k,
}


class SpanConfig(Slot):
    """How far one layer sees, within what the pattern allows."""

    package: ClassVar[str] = "nn"
    pattern: ClassVar[str | None] = None  # that says the same, whatever the tower's

    @abstractmethod
    def covers(self, length: int) -> bool:
        """Return whether no two of `length` tokens are too far apart."""

    @abstractmethod
    def allowed(self, distance: Tensor) -> Tensor:
        """Return which distances of order, query minus key, are within reach: bool."""


class WindowConfig(SpanConfig):
    """Less than `length` places away: a sliding window (Beltagy et al. 2020, 3.1)."""

    name: Literal["window"] = "window"
    length: Annotated[int, Field(ge=1)]

    def covers(self, length: int) -> bool:
        """Return whether the window has room for `length` tokens."""
        return length <= self.length

    def allowed(self, distance: Tensor) -> Tensor:
        return distance.abs() < self.length


class CausalSpanConfig(SpanConfig):
    """Itself and what was before, in a tower that otherwise sees all (CLIP's text)."""

    name: Literal["causal_span"] = "causal_span"
    pattern: ClassVar[str | None] = "causal"

    def covers(self, length: int) -> bool:
        """Return True: the pattern alone says what is seen."""
        return True

    def allowed(self, distance: Tensor) -> Tensor:
        """Return which distances of order are those of a token itself and of earlier ones."""
        return distance >= 0


@dataclass(frozen=True)
class Mask:
    """What scaled_dot_product_attention takes: a table, or the fast causal path, or nothing."""

    table: Tensor | None  # [B,1,Q,K] bool: allowed; or [B,H,Q,K]: what is added to the logits
    causal: bool = False

    def matched(self, dtype: torch.dtype) -> Tensor | None:
        """The table for queries of `dtype`, which what is added to their logits must have too."""
        plain = self.table is None or self.table.dtype == torch.bool
        return self.table if plain else self.table.to(dtype)  # type: ignore[union-attr]

    def add(self, logits: Tensor) -> Tensor:
        """Logits [B,H,Q,K] as the mask wants them, in place: -inf where nothing is seen."""
        if self.causal:
            place = torch.arange(logits.shape[-1], device=logits.device)
            return logits.masked_fill_(place > place[:, None], -torch.inf)
        if self.table is None:
            return logits
        if self.table.dtype == torch.bool:
            return logits.masked_fill_(~self.table, -torch.inf)
        return logits.add_(self.table.to(logits.dtype))


def mask(
    pattern: str,
    queries: Tokens,
    keys: Tokens,
    bias: Tensor | None = None,
    reach: SpanConfig | None = None,
) -> Mask:
    """The mask of `pattern` between queries and keys; packed documents do not see each other.

    `reach` is within a document. `bias` [B,H,Q,K] is added to the logits of what is allowed. Whole
    single documents in memory order need no table of what is. Padding (document -1) sees padding,
    so that no row of the softmax is empty; nothing reads it.
    """
    pattern = (reach and reach.pattern) or pattern
    same_length = queries.position.shape[1] == keys.position.shape[1]
    near = reach is None or reach.covers(keys.position.shape[1])
    plain = keys.order is None and keys.document is None and near
    if plain and pattern == "full":
        return Mask(bias)
    if plain and pattern == "causal" and same_length and bias is None:
        return Mask(None, causal=True)
    if plain and pattern == "causal" and queries.position.shape[1] == 1:  # the last sees all
        return Mask(bias)
    q_BQ1, k_B1K = _order(queries, keys).unsqueeze(-1), _order(keys, keys).unsqueeze(-2)
    allowed = PATTERNS[pattern](q_BQ1, k_B1K)
    if reach is not None and not near:
        allowed = allowed & reach.allowed(q_BQ1 - k_B1K)
    if keys.document is not None and queries.document is not None:
        allowed = allowed & (queries.document.unsqueeze(-1) == keys.document.unsqueeze(-2))
    table = allowed.unsqueeze(1)
    return Mask(table if bias is None else bias.masked_fill(~table, -torch.inf))


def _order(tokens: Tokens, keys: Tokens) -> Tensor:
    if tokens.order is not None:
        return tokens.order
    n, end = tokens.position.shape[1], keys.position.shape[1]
    return torch.arange(end - n, end, device=tokens.position.device).unsqueeze(0)
