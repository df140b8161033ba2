"""Batches: order and mixture as a pure function of (seed, step), resumable in O(1).

Legend: B rows of a source, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import grain
import numpy as np
import torch
from numpy.typing import NDArray

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError, ResourceError
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.processes import end_with_parent
from broadbase.core.view import Segment
from broadbase.data.rows import Row, Rows


@dataclass(frozen=True)
class MixedBatches:
    """Which rows a step takes: `counts[k]` of each source k, each shuffled anew every epoch."""

    rows: Mapping[str, Rows]
    spaces: Mapping[str, str]  # source -> the Space its values are in
    counts: Mapping[str, int]  # rows a step, over all ranks
    seed: int
    limits: Mapping[str, int | None] = field(default_factory=dict)  # rows of a source to use
    pairs: Mapping[str, str | None] = field(default_factory=dict)  # groups that go together

    def batches(
        self, start: int, stop: int, *, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Return the batches of steps `start` to `stop` for one rank of `world`.

        Built by `workers`.
        """
        for name, count in self.counts.items():
            if count % world:
                raise ConfigError(
                    f"data.sources.{name}.batch_size={count} does not divide over {world} ranks;"
                    f" use a multiple of {world}"
                )
        return self._batches(start, stop, workers, rank, world)

    def _batches(
        self, start: int, stop: int, workers: int, rank: int, world: int
    ) -> Iterator[Batch]:
        orders = self.orders

        def build(step: int) -> dict[str, Row]:
            built = {}
            for name, rows in self.rows.items():
                first, count = step * self.counts[name], self.counts[name]
                chosen = [orders[name][i] for i in range(first + rank, first + count, world)]
                built[name] = rows.batch(chosen)
            return built

        # Loader processes send arrays: a tensor could not be opened once its process has ended.
        made = _made(build, start, stop, workers) if workers else map(build, range(start, stop))
        for step, rows in enumerate(made, start):
            segments = {
                name: _as_segment(row, self.spaces[name], self.rows[name].plain)
                for name, row in rows.items()
            }
            yield Batch(step, segments, KeyedRandom(self.seed, step, rank, world))

    @cached_property
    def orders(self) -> dict[str, Order]:
        """Return endless row numbers of each source: an epoch has each row once, shuffled anew.

        With a limit, its rows are that many, drawn at random once. Pairs have one order.
        """
        by_source = {}
        for name, source in self.rows.items():
            stream = self.pairs.get(name) or name
            rows, limit = np.arange(len(source)), self.limits.get(name)
            if limit is not None:
                rows = np.random.default_rng(seed_of(self.seed, stream)).permutation(rows)[:limit]
            by_source[name] = Order(rows, seed_of(self.seed, stream, "order"))
        return by_source


def _made(
    build: Callable[[int], dict[str, Row]], start: int, stop: int, workers: int
) -> Iterator[dict[str, Row]]:
    """Yield what loader processes build, in order.

    Raise ResourceError where one of them was killed.
    """
    steps = grain.MapDataset.range(start, stop).map(build)
    stream = steps.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers)
    built = iter(stream.mp_prefetch(options, worker_init_fn=_begin))
    try:
        for rows in built:  # noqa: UP028 (it must be closed below, and only there)
            yield rows
    except (RuntimeError, EOFError) as error:
        if isinstance(error, RuntimeError) and "terminated unexpectedly" not in str(error):
            raise
        raise ResourceError(
            "a loader process was killed, likely for want of memory; `resume` goes on from the last"
            " checkpoint, with fewer of them by --set train.workers=N"
        ) from None
    finally:
        built.close()


def _begin(*_: int) -> None:
    """End this loader process when its parent ends."""
    end_with_parent()


class Order:
    """Endless numbers: every epoch has each of `rows` once, shuffled anew; one epoch is kept."""

    def __init__(self, rows: NDArray[np.int64], key: list[int]) -> None:
        """Shuffle `rows` by `key` and the number of the epoch."""
        self.rows, self.key = rows, key
        self._epoch, self._order = -1, rows

    def __getitem__(self, position: int) -> int:
        """Return the item at one position."""
        epoch, i = divmod(position, len(self.rows))
        if epoch != self._epoch:
            rng = np.random.default_rng([*self.key, epoch])
            self._epoch, self._order = epoch, rng.permutation(self.rows)
        return int(self._order[i])


def held_out(rows: Rows, space: str, size: int, limit: int | None = None) -> Iterator[Segment]:
    """Yield rows in order, `size` at a time up to `limit`; the last batch may be smaller."""
    last = len(rows) if limit is None else min(limit, len(rows))
    for i in range(0, last, size):
        yield _as_segment(rows.batch(range(i, min(i + size, last))), space, rows.plain)


def collate(rows: list[Row], space: str, plain: bool) -> Segment:
    """Return rows as one Segment [B,T]; plain rows need no order and document."""
    joined = (np.stack([getattr(row, f.name) for row in rows]) for f in fields(Row))
    return _as_segment(Row(*joined), space, plain)


def _as_segment(rows: Row, space: str, plain: bool) -> Segment:
    """Return rows [B,T] as tensors."""
    return Segment(
        space,
        values=torch.from_numpy(rows.values),
        position=torch.from_numpy(rows.position),
        order=None if plain else torch.from_numpy(rows.order),
        document=None if plain else torch.from_numpy(rows.document),
        loss_weight=torch.from_numpy(rows.weight),
    )
