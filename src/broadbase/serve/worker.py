"""The one thread that computes; the thread of the sockets hands it work and awaits the results.

Torch uses all cores for one forward. Two forwards at once would only slow each other down, and a
model that one thread owns needs no lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

R = TypeVar("R")


class FullError(Exception):
    """More requests wait than the server takes."""


class Worker:
    """A thread with a bounded queue of jobs, done in order."""

    def __init__(self, size: int) -> None:
        """Start the thread; at most `size` jobs wait."""
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue(size)
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._jobs.qsize()

    async def run(self, job: Callable[..., R], *args: Any) -> R:
        """Return what `job(*args)` returns, or raise what it raises; FullError if too many wait.

        A job whose caller has gone before it began is not done.
        """
        future: Future[R] = Future()
        try:
            self._jobs.put_nowait((lambda: job(*args), future))
        except queue.Full:
            raise FullError from None
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after the jobs that wait."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
