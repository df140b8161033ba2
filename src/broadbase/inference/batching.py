"""Continuous batching: rows join and leave a batch that runs (Orca; Yu et al. 2022).

Each row has its own prompt, length, sampling and end, and its output is the one that `generate`
makes of it alone. A step reads up to `CHUNK` tokens of the prompts that wait, so that a long one
does not stop the other rows, and then generates one token for every row. The last token of a prompt
is read with those that other rows generated, so that a prompt costs no product of its own with the
output matrix.

Legend: B rows, T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.core.view import Predict, Segment, Stream, View
from broadbase.inference.autoregressive import (
    DAMAGED,
    AutoregressiveConfig,
    SamplingConfig,
    draw,
    is_finite,
)
from broadbase.inference.base import Base
from broadbase.inference.decoding import Speller, must_stop
from broadbase.inference.documents import must_fit
from broadbase.inference.embedding import ROWS
from broadbase.inference.likelihood import likeliest
from broadbase.inference.linear import packed
from broadbase.nn.adapters.mixed import Mixture, must_have
from broadbase.nn.cache import Cache, RowsCache

CHUNK = 256  # tokens of prompts that one step reads
BYTES = 2**31  # of keys and values, where nobody says how many tokens are kept


@dataclass(frozen=True)
class Completion:
    """What one row generates."""

    prompt: tuple[int, ...]  # ids, with those that the base puts before a record (`prompt_ids`)
    max_new_tokens: int
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stop: tuple[str, ...] = ()  # texts at which the output ends; they are left out
    logprobs: int | None = None  # how many of the likeliest tokens to report; None: no probability
    adapter: str | None = None  # one of those of the batch; None: the base alone

    @property
    def length(self) -> int:
        """How many tokens there may be in the end."""
        return len(self.prompt) + self.max_new_tokens


@dataclass(frozen=True)
class NewToken:
    """What a step generates for one row."""

    id: int
    text: str  # what it adds to the output; nothing while a character or a stop may be unfinished
    logprob: float | None = None  # natural logarithm, at temperature 1
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids with theirs
    finish: Literal["stop", "length", "error"] | None = None  # why the row ends; None: it goes on
    error: DataError | None = None


@dataclass
class Row:
    """A completion in progress."""

    handle: int
    completion: Completion
    speller: Speller
    chance: Generator  # of its sampling
    cache: Cache | None = None  # of the part of the prompt that is read
    read: int = 0  # tokens of the prompt
    last: int = 0  # the id that was generated last
    generated: int = 0


@dataclass
class Batch:
    """Rows of one base that are generated side by side."""

    base: Base
    modality: str | None = None
    rows: int = 16  # the most at once
    tokens: int | None = None  # the most in the caches of all rows; None: `BYTES` of them
    adapters: Mixture | None = None  # of the base, from which each row may have one
    waiting: deque[Row] = field(default_factory=deque, init=False)  # whose prompts are being read
    running: list[Row] = field(default_factory=list, init=False)  # in the order of the cache

    def __post_init__(self) -> None:
        """Check that the base can be batched; ConfigError otherwise."""
        self.space, self.codec = self.base.codec(self.modality)
        if not self.supports(self.base, self.modality):
            raise ConfigError(
                f"{self.space!r} of this base cannot be generated in a batch that rows join and"
                " leave; use `generate`"
            )
        model = self.base.model if self.adapters is None else self.adapters.model
        self.model = packed(model, ROWS if self.rows > 1 else 1)
        self.tower = self.base.tower(self.space)
        tower: Any = self.model.towers[self.tower]
        self.device = next(self.base.model.parameters()).device
        if self.tokens is None:
            self.tokens = BYTES // self.base.token_bytes(self.tower)
        self.cache = RowsCache(len(tower.blocks), self.rows, self.tokens)
        self._handles = count()

    @staticmethod
    def supports(base: Base, modality: str | None = None) -> bool:
        """Return whether rows of a base can be batched: ids after ids, from one causal stream."""
        space, codec = base.codec(modality)
        tower: Any = base.model.towers[base.tower(space)]
        return (
            isinstance(base.usage.generator, AutoregressiveConfig)
            and base.usage.conditioning is None
            and base.attention_pattern(space) == "causal"
            and space not in base.usage.grids
            and not codec.start.ndim
            and tower.registers is None
        )

    @property
    def live(self) -> int:
        """How many rows there are."""
        return len(self.running) + len(self.waiting)

    def check(self, completion: Completion) -> None:
        """Raise ConfigError or DataError where a completion can never be generated."""
        must_stop(completion.stop)
        if completion.adapter is not None:
            must_have(completion.adapter, () if self.adapters is None else self.adapters.names)
        given, new = len(completion.prompt), completion.max_new_tokens
        must_fit(self.space, self.base.config.max_length(self.space), given, new)
        assert self.tokens is not None
        if not given or new < 1:
            raise ConfigError("a completion needs a token of prompt, and one to generate")
        if completion.length > self.tokens:
            raise ConfigError(
                f"{given} tokens of prompt and {new} new ones do not fit into the memory for"
                f" {self.tokens:,} tokens; ask for fewer"
            )

    def fits(self, completion: Completion) -> bool:
        """Return whether there is room for a completion now: the buffers are as long as the
        longest row."""
        assert self.tokens is not None
        rows = [*self.running, *self.waiting]
        longest = max([completion.length, *(row.completion.length for row in rows)])
        return len(rows) < self.rows and (len(rows) + 1) * longest <= self.tokens

    def add(self, completion: Completion) -> int:
        """Add a row that is read and generated by the steps to come; return its handle.

        Errors are those of `check`; ResourceError where it does not fit now.
        """
        self.check(completion)
        if not self.fits(completion):
            raise ResourceError(
                f"there is no room for another row: {self.live} of {self.rows} rows are live, in"
                f" memory for {self.tokens:,} tokens; add it when `fits` says so"
            )
        speller = Speller(self.codec, completion.prompt, completion.stop)
        row = Row(next(self._handles), completion, speller, completion.sampling.generator())
        self.waiting.append(row)
        return row.handle

    @torch.inference_mode()
    def remove(self, handle: int) -> None:
        """Remove a row before its end; nothing happens where it has ended."""
        for row in [row for row in self.waiting if row.handle == handle]:
            self.waiting.remove(row)
        for row in [row for row in self.running if row.handle == handle]:
            self._leave(row)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, NewToken]]:
        """Read prompts that wait, then generate a token for every row; return these by handle."""
        self._read()
        return [*self._generated(self._next())] if self.running else []

    def _read(self) -> None:
        """Read up to `CHUNK` tokens of prompts; those that are read but for the last one run.

        A prompt that is not read by then goes to the end of the line, so that short ones pass it.
        """
        left = CHUNK
        while self.waiting:
            row = self.waiting[0]
            end = len(row.completion.prompt) - 1
            part = min(end - row.read, left)
            if part:
                self._prefill(row, row.read + part)
                left -= part
            if row.read < end:
                self.waiting.rotate(-1)
                return
            self.waiting.popleft()
            self.cache.join(row.cache, row.completion.length)
            row.cache, row.last = None, row.completion.prompt[-1]
            self.running.append(row)

    def _prefill(self, row: Row, end: int) -> None:
        """Read the prompt of a row up to `end`."""
        row.cache = row.cache or Cache(len(self.cache.layers))
        ids_1T = torch.tensor([row.completion.prompt[row.read : end]], device=self.device)
        line_T = torch.arange(row.read, end, device=self.device)
        segment = Segment(self.space, ids_1T, line_T[None, :, None].expand(1, -1, 3))
        row.read = end
        with self._adapted([row]):
            self.model(self._view(segment), caches={"main": row.cache})

    def _next(self) -> Tensor:
        """Return the logits [B,V] after the last tokens of all rows that run."""
        ids_B1 = torch.tensor([[row.last] for row in self.running], device=self.device)
        order_B1 = torch.tensor(self.cache.lengths, device=self.device)[:, None]
        segment = Segment(self.space, ids_B1, order_B1[..., None].expand(-1, 1, 3), order=order_B1)
        view = self._view(segment, Predict(self.space, "next"))
        with self._adapted(self.running):
            output = self.model(view, caches={"main": self.cache})
        kept: list[Tensor] = []

        def keep(logits: Tensor) -> Tensor:
            kept.append(logits)
            return logits[..., 0]

        self.model.head(self.space).sample(output.predictions["next"], keep)
        return kept[0][:, 0]

    def _adapted(self, rows: Sequence[Row]) -> AbstractContextManager[None]:
        """Return a context in which the rows of a forward have their adapters."""
        if self.adapters is None:
            return nullcontext()
        return self.adapters.chosen([row.completion.adapter for row in rows])

    def _view(self, segment: Segment, *reads: Predict) -> View:
        return View((Stream("main", self.tower, (segment,), "causal", readouts=reads),))

    def _generated(self, logits_BV: Tensor) -> Iterator[tuple[int, NewToken]]:
        """Draw a token for each row that runs; those that end leave the batch."""
        for i, (row, token) in enumerate(zip([*self.running], self._drawn(logits_BV), strict=True)):
            if token is None:
                new = NewToken(0, "", finish="error", error=DataError(DAMAGED))
            else:
                new = self._token(row, token, logits_BV[i])
            if new.finish is not None:
                self._leave(row, damaged=new.error is not None)
            yield row.handle, new

    def _drawn(self, logits_BV: Tensor) -> list[int | None]:
        """Draw an id for each row; None where its logits are not finite.

        Rows of the same settings are drawn together, each by its own generator.
        """
        drawn: list[int | None] = [None] * len(self.running)
        alike: dict[object, list[int]] = {}
        for i, finite in enumerate(is_finite(logits_BV).tolist()):
            if finite:
                sampling = self.running[i].completion.sampling
                alike.setdefault(sampling.distribution, []).append(i)
        for rows in alike.values():
            sampling = self.running[rows[0]].completion.sampling
            chances = [self.running[i].chance for i in rows]
            ids = draw(logits_BV[rows], sampling, chances).tolist()
            for i, token in zip(rows, ids, strict=True):
                drawn[i] = token
        return drawn

    def _token(self, row: Row, token: int, logits_V: Tensor) -> NewToken:
        """Return a token that was drawn, with what it adds to the output of its row."""
        row.last, row.generated = token, row.generated + 1
        text, stopped = row.speller.add(token)
        finish: Literal["stop", "length"] | None = "stop" if stopped else None
        if not stopped and row.generated == row.completion.max_new_tokens:
            finish, text = "length", text + row.speller.rest()
        if row.completion.logprobs is None:
            return NewToken(token, text, finish=finish)
        logprob, top = likeliest(logits_V, token, row.completion.logprobs)
        return NewToken(token, text, logprob, top, finish)

    def _leave(self, row: Row, damaged: bool = False) -> None:
        """Take a row out; the last one takes its place in the cache."""
        i = self.running.index(row)
        self.cache.leave(i, damaged)
        self.running[i] = self.running[-1]
        self.running.pop()
