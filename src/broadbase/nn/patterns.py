"""Which tokens see which: masks by order and document, never by index in memory.

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
    """How far one layer sees within what the pattern allows."""

    package: ClassVar[str] = "nn"
    pattern: ClassVar[str | None] = None
    """The pattern that replaces the one of the stream in these layers; None: none does."""

    @abstractmethod
    def covers(self, length: int) -> bool:
        """Return whether no two of `length` tokens are too far apart."""

    @abstractmethod
    def allowed(self, distance: Tensor) -> Tensor:
        """Return which distances of order, query minus key, are within reach: bool."""


class WindowConfig(SpanConfig):
    """A sliding window: tokens less than `length` away (Beltagy et al. 2020, 3.1)."""

    name: Literal["window"] = "window"
    length: Annotated[int, Field(ge=1)]
    """The size of the window: a token sees itself and those less than `length` tokens away."""

    def covers(self, length: int) -> bool:
        """Return whether the window has room for `length` tokens."""
        return length <= self.length

    def allowed(self, distance: Tensor) -> Tensor:
        """Return which distances of order are less than the length: bool."""
        return distance.abs() < self.length


class CausalSpanConfig(SpanConfig):
    """A token itself and earlier ones, in a tower whose pattern may be full (CLIP's text)."""

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
    """A mask as scaled_dot_product_attention takes it: a table, its causal flag, or neither."""

    table: Tensor | None  # [B,1,Q,K] bool: allowed; or [B,H,Q,K]: a bias of the logits; None: all
    causal: bool = False  # whether a key after its query is masked; `table` is None then

    def matched(self, dtype: torch.dtype) -> Tensor | None:
        """Return the table for queries of `dtype`; a bias of their logits has the same type."""
        plain = self.table is None or self.table.dtype == torch.bool
        return self.table if plain else self.table.to(dtype)  # type: ignore[union-attr]

    def add(self, logits: Tensor) -> Tensor:
        """Mask logits [B,H,Q,K] in place: add the bias, and write -inf where nothing is seen."""
        if self.causal:
            index = torch.arange(logits.shape[-1], device=logits.device)
            return logits.masked_fill_(index > index[:, None], -torch.inf)
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
    span: SpanConfig | None = None,
) -> Mask:
    """Return the mask of `pattern` between queries and keys; documents do not see each other.

    `span` limits the reach within a document. `bias` [B,H,Q,K] is added to the logits of what is
    allowed. Rows of one complete document in memory order need no table. Padding (document -1) sees
    padding, so that no row of the softmax is empty; nothing reads it.
    """
    pattern = (span and span.pattern) or pattern
    same_length = queries.position.shape[1] == keys.position.shape[1]
    near = span is None or span.covers(keys.position.shape[1])
    plain = keys.order is None and keys.document is None and near
    if plain and pattern == "full":
        return Mask(bias)
    if plain and pattern == "causal" and same_length and bias is None:
        return Mask(None, causal=True)
    if plain and pattern == "causal" and queries.position.shape[1] == 1:  # the last sees all
        return Mask(bias)
    q_BQ1, k_B1K = _order(queries, keys).unsqueeze(-1), _order(keys, keys).unsqueeze(-2)
    allowed = PATTERNS[pattern](q_BQ1, k_B1K)
    if span is not None and not near:
        allowed = allowed & span.allowed(q_BQ1 - k_B1K)
    if keys.document is not None and queries.document is not None:
        allowed = allowed & (queries.document.unsqueeze(-1) == keys.document.unsqueeze(-2))
    table = allowed.unsqueeze(1)
    return Mask(table if bias is None else bias.masked_fill(~table, -torch.inf))


def _order(tokens: Tokens, keys: Tokens) -> Tensor:
    if tokens.order is not None:
        return tokens.order
    n, end = tokens.position.shape[1], keys.position.shape[1]
    return torch.arange(end - n, end, device=tokens.position.device).unsqueeze(0)
