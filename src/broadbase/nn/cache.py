"""The key-value cache: it keeps what has been read, so that a new token costs one token.

Legend: B batch, G key-value heads, S tokens so far, T new tokens, E head_dim, L layers.
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


class RowsCache(Cache):
    """The caches of rows that join and leave, each as long as it is.

    Keys are written at the length of their row, and what lies behind it is later in order, so that
    no mask but the causal one is needed. Rows are the first ones of the buffers.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(0)
        self.rows = [RowsLayer(self) for _ in range(layers)]
        self.layers = list[LayerCache](self.rows)
        self.length_B = torch.zeros(0, dtype=torch.int64)
        self.at_B = self.length_B  # where the new tokens of a step are written

    def append(self, new: Tokens) -> Tokens:
        """Take up one new token of every row; return what attention may know of all."""
        self.at_B, self.length_B = self.length_B, self.length_B + 1
        order_1S = torch.arange(self.longest, device=new.position.device)[None]
        return Tokens(position=order_1S[..., None].expand(1, -1, 3), order=order_1S)

    @property
    def longest(self) -> int:
        """How many tokens the longest row has."""
        return int(self.length_B.max()) if len(self.length_B) else 0

    def join(self, cache: Cache) -> None:
        """Add the row of a cache as the last one."""
        length, row = cache.layers[0].length, len(self.length_B)
        for layer, other in zip(self.rows, cache.layers, strict=True):
            layer.join(other, row, length)
        added = torch.tensor([length])
        self.length_B = torch.cat([self.length_B, added.to(self.length_B.device)])

    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its place."""
        last = len(self.length_B) - 1
        if row != last:
            for layer in self.rows:
                layer.move(last, row, int(self.length_B[last]))
            self.length_B[row] = self.length_B[last]
        self.length_B = self.length_B[:last].clone()


class RowsLayer(LayerCache):
    """Keys and values of one layer of rows of different lengths."""

    def __init__(self, rows: RowsCache) -> None:
        super().__init__()
        self.owner = rows

    def extend(self, k_BGTE: Tensor, v_BGTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values [B,G,1,E] at the end of each row; return all, [B,G,S,E]."""
        at_B, B, S = self.owner.at_B, len(k_BGTE), self.owner.longest
        self._reserve(k_BGTE, B, S)
        assert self._k is not None
        assert self._v is not None
        row_B = torch.arange(B, device=at_B.device)
        self._k[row_B, :, at_B] = k_BGTE[:, :, 0]
        self._v[row_B, :, at_B] = v_BGTE[:, :, 0]
        return self._k[:B, :, :S], self._v[:B, :, :S]

    def join(self, other: LayerCache, row: int, length: int) -> None:
        """Copy the keys and values of another cache of one row."""
        assert other._k is not None
        assert other._v is not None
        self._reserve(other._k, row + 1, length + 1)
        assert self._k is not None
        assert self._v is not None
        self._k[row, :, :length] = other._k[0, :, :length]
        self._v[row, :, :length] = other._v[0, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another one."""
        assert self._k is not None
        assert self._v is not None
        self._k[target, :, :length] = self._k[source, :, :length]
        self._v[target, :, :length] = self._v[source, :, :length]

    def _reserve(self, like_BGTE: Tensor, rows: int, tokens: int) -> None:
        """Make the buffers as large as `rows` and `tokens`, by doubling."""
        self._k, self._v = (_grown(x, like_BGTE, rows, tokens) for x in (self._k, self._v))


def _grown(buffer: Tensor | None, like: Tensor, rows: int, tokens: int) -> Tensor:
    """Return a buffer [rows or more, G, tokens or more, E] with what another one holds."""
    if buffer is not None and buffer.shape[0] >= rows and buffer.shape[2] >= tokens:
        return buffer
    R, S = (0, 0) if buffer is None else (buffer.shape[0], buffer.shape[2])
    R_new = R if rows <= R else max(2 * R, rows)
    S_new = S if tokens <= S else max(2 * S, tokens, 64)
    larger = like.new_zeros(R_new, like.shape[1], S_new, like.shape[3])
    if buffer is not None:
        larger[:R, :, :S] = buffer
    return larger
