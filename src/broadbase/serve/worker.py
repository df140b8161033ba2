"""The one thread that computes; the thread of the sockets hands it work and awaits the results.

Torch uses all cores for one forward. Two forwards at once would only slow each other down, and a
model that one thread owns needs no lock. Between two steps of the batches it does one job.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from broadbase.serve.lane import Answers, Lane, MakeBatch

R = TypeVar("R")


class FullError(Exception):
    """More requests wait than the server takes."""


class Worker:
    """A thread with a bounded queue: of jobs, done in order, and of answers, drawn in batches."""

    def __init__(self, size: int, rows: int = 16) -> None:
        """Start the thread; at most `size` requests wait, and `rows` are drawn side by side."""
        self.size, self.rows = size, rows
        self._ready = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._lanes: dict[Hashable, Lane] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs and answers wait."""
        return len(self._jobs) + sum(len(lane.pending) for lane in [*self._lanes.values()])

    @property
    def live(self) -> int:
        """How many answers are drawn side by side now."""
        return sum(len(lane.live) for lane in [*self._lanes.values()])

    async def run(self, job: Callable[..., R], *args: Any) -> R:
        """Return what `job(*args)` returns, or raise what it raises; FullError if too many wait.

        A job whose caller has gone before it began is not done.
        """
        future: Future[R] = Future()
        with self._ready:
            for lane in self._lanes.values():
                lane.forget()
            if self.waiting >= self.size:
                raise FullError
            self._jobs.append((lambda: job(*args), future))
            self._ready.notify()
        return await asyncio.wrap_future(future)

    def draw(self, key: Hashable, make: MakeBatch, answers: Answers) -> None:
        """Draw answers in the batch of `key`, which `make` makes; FullError if too many wait."""
        with self._ready:
            lane = self._lanes.setdefault(key, Lane(make))
            lane.forget()
            free = max(0, self.rows - len(lane.live))
            if self.waiting + len(answers.completions) > self.size + free:
                raise FullError
            lane.pending.extend((answers, i) for i in range(len(answers.completions)))
            self._ready.notify()

    def close(self) -> None:
        """End the thread after the work that waits."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._closing or self._jobs or self._busy())
                job = self._jobs.popleft() if self._jobs else None
                lanes = self._busy()
                if job is None and not lanes:
                    return
            if job is not None:
                _do(*job)
            for lane in lanes:
                lane.step(self._ready)

    def _busy(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.live or lane.pending]


def _do(job: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
