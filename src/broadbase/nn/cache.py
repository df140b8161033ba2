"""The key-value cache: it keeps what has been read, so that a new token costs one token.

Legend: B batch, G key-value heads, S tokens so far, T new tokens, E head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from broadbase.core.view import Tokens


class LayerCache:
    """Keys and values of one layer, in buffers that double when full."""

    def __init__(self) -> None:
        self.length = 0
        self.context: tuple[Tensor, Tensor] | None = None  # keys and values of cross-attention
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def extend(self, k_BGTE: Tensor, v_BGTE: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values [B,G,T,E] of new tokens; return all of both, [B,G,S,E]."""
        start, self.length = self.length, self.length + k_BGTE.shape[2]
        self._k = _fit(self._k, k_BGTE, start, self.length)
        self._v = _fit(self._v, v_BGTE, start, self.length)
        return self._k[:, :, : self.length], self._v[:, :, : self.length]


def _fit(buffer: Tensor | None, new: Tensor, start: int, stop: int) -> Tensor:
    if buffer is None or buffer.shape[2] < stop:
        B, G, _, E = new.shape
        larger = new.new_zeros(B, G, max(64, 2 * stop), E)
        if buffer is not None:
            larger[:, :, :start] = buffer[:, :, :start]
        buffer = larger
    buffer[:, :, start:stop] = new
    return buffer


class Cache:
    """The caches of all layers of a tower, with what attention may know of the tokens in them."""

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]
        self.tokens: Tokens | None = None

    def append(self, new: Tokens) -> Tokens:
        """Append what attention may know of new tokens; return it for all tokens."""
        old = self.tokens
        self.tokens = (
            new
            if old is None
            else Tokens(
                position=torch.cat([old.position, new.position], dim=1),
                order=_join(old.order, new.order),
                document=_join(old.document, new.document),
            )
        )
        return self.tokens


def _join(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    return None if old is None or new is None else torch.cat([old, new], dim=1)
