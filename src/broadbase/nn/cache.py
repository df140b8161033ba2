"""The key-value cache: it keeps what has been read, so that a new token costs one token.

Legend: B batch, G key-value heads, S tokens so far, T new tokens, E head_dim, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

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

    def repeated(self, times: int) -> LayerCache:
        """Return a copy in which every row stands `times` times in a row."""

        def repeat(x: Tensor) -> Tensor:
            return x.repeat_interleave(times, dim=0)

        copy = LayerCache()
        copy.length = self.length
        if self.context is not None:
            copy.context = repeat(self.context[0]), repeat(self.context[1])
        if self._k is not None and self._v is not None:
            copy._k, copy._v = (repeat(x[:, :, : self.length]) for x in (self._k, self._v))
        return copy


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

    def repeated(self, times: int) -> Cache:
        """Return a copy in which every row stands `times` times in a row.

        So rows that begin alike read their beginning once.
        """
        copy = Cache(0)
        copy.layers = [layer.repeated(times) for layer in self.layers]
        if self.tokens is not None:
            copy.tokens = self.tokens.map(lambda x: x.repeat_interleave(times, dim=0))
        return copy


def _join(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    return None if old is None or new is None else torch.cat([old, new], dim=1)


class RowsCache(Cache):
    """The caches of rows that join and leave, each as long as it is.

    Keys are written at the length of their row, and what lies behind it is later in order, so that
    no mask but the causal one is needed. Rows are the first ones of the buffers, which have room
    for what every row may need in the end, and never for more than `most_tokens` in all rows.
    """

    def __init__(self, layers: int, most_rows: int, most_tokens: int) -> None:
        super().__init__(0)
        self.rows = [RowsLayer(self) for _ in range(layers)]
        self.layers = list[LayerCache](self.rows)
        self.most_rows, self.most_tokens = most_rows, most_tokens
        self.lengths: list[int] = []
        self.reserved: list[int] = []  # how many tokens each row may have in the end
        self.shape = (0, 0)  # rows and tokens of a row that the buffers have room for
        self.longest = 0  # of the rows of a step, with its token
        self.at_B = torch.zeros(0, dtype=torch.int64)  # where the tokens of a step are written

    def append(self, new: Tokens) -> Tokens:
        """Take up one new token of every row; return what attention may know of all."""
        device = new.position.device
        self.at_B = torch.tensor(self.lengths, device=device)
        self.lengths = [length + 1 for length in self.lengths]
        self.longest = max(self.lengths)
        order_1S = torch.arange(self.longest, device=device)[None]
        return Tokens(position=order_1S[..., None].expand(1, -1, 3), order=order_1S)

    def join(self, cache: Cache | None, reserved: int) -> None:
        """Add the row of a cache (None: an empty one) as the last one.

        `reserved` is how many tokens it may have in the end.
        """
        row, length = len(self.lengths), 0 if cache is None else cache.layers[0].length
        self.lengths.append(length)
        self.reserved.append(reserved)
        self._make_room()
        for layer, other in zip(self.rows, cache.layers if cache else (), strict=False):
            layer.join(other, row, length)

    def leave(self, row: int, damaged: bool = False) -> None:
        """Remove a row; the last one takes its place.

        Numbers of a `damaged` one are wiped: what is not finite spoils even what never reads it.
        """
        last = len(self.lengths) - 1
        for layer in self.rows:
            if damaged:
                layer.wipe(row)
            if row != last:
                layer.move(last, row, self.lengths[last])
        for numbers in (self.lengths, self.reserved):
            numbers[row] = numbers[-1]
            numbers.pop()

    def _make_room(self) -> None:
        """Give the buffers another shape where rows or tokens do not fit."""
        rows, tokens = len(self.reserved), max(self.reserved)
        if rows <= self.shape[0] and tokens <= self.shape[1]:
            return
        S = max(tokens, min(_power(tokens), self.most_tokens // rows))
        R = max(rows, min(_power(rows), self.most_rows, self.most_tokens // S))
        self.shape = (R, S)
        for layer in self.rows:
            layer.reshape(self.lengths)


class RowsLayer(LayerCache):
    """Keys and values of one layer of rows of different lengths."""

    def __init__(self, rows: RowsCache) -> None:
        super().__init__()
        self.owner = rows

    def extend(self, k_BGTE: Tensor, v_BGTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values [B,G,1,E] at the end of each row; return all, [B,G,S,E]."""
        B, S = len(k_BGTE), self.owner.longest
        row_B = torch.arange(B, device=k_BGTE.device)
        for buffer, new in zip(self._buffers(k_BGTE), (k_BGTE, v_BGTE), strict=True):
            buffer[row_B, :, self.owner.at_B] = new[:, :, 0]
        k, v = self._buffers(k_BGTE)
        return k[:B, :, :S], v[:B, :, :S]

    def join(self, other: LayerCache, row: int, length: int) -> None:
        """Copy the keys and values of another cache of one row."""
        assert other._k is not None
        assert other._v is not None
        for buffer, new in zip(self._buffers(other._k), (other._k, other._v), strict=True):
            buffer[row, :, :length] = new[0, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another one."""
        for buffer in self._buffers():
            buffer[target, :, :length] = buffer[source, :, :length]

    def wipe(self, row: int) -> None:
        """Set what was written of a row to 0."""
        for buffer in self._buffers():
            buffer[row] = 0

    def reshape(self, lengths: Sequence[int]) -> None:
        """Take up the shape that the cache of all layers has, with the tokens of each row."""
        old = self._buffers()
        self._k = self._v = None
        for before, after in zip(old, self._buffers(*old[:1]), strict=False):
            for row, length in enumerate(lengths[: len(before)]):
                length = min(length, before.shape[2])
                after[row, :, :length] = before[row, :, :length]

    def _buffers(self, like_BGTE: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return both buffers [R,G,S,E]; they are made where there is something `like` them."""
        if self._k is None and like_BGTE is not None:
            (R, S), (_, G, _, E) = self.owner.shape, like_BGTE.shape
            self._k, self._v = (like_BGTE.new_zeros(R, G, S, E) for _ in range(2))
        return () if self._k is None or self._v is None else (self._k, self._v)


def _power(number: int) -> int:
    """Return the least power of 2 that is not below a number."""
    return 1 << (number - 1).bit_length()
