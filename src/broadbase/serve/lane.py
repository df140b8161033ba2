"""A batch in which answers are drawn side by side: they join it, leave it, and reach their clients.

The model's thread steps a lane. The thread of the sockets makes `Answers`, reads their tokens and
leaves them. Both change what waits, under the worker's lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, suppress

from broadbase.core.errors import ResourceError
from broadbase.inference.batching import Batch, Completion, NewToken

MakeBatch = Callable[[], Batch]
Item = tuple["Answers", int, "NewToken | BaseException"]


class Answers:
    """The answers of one request, in the thread of the sockets."""

    def __init__(self, completions: Sequence[Completion]) -> None:
        """Take what is to be drawn; a loop of asyncio must run."""
        self.completions = completions
        self.gone = False  # the client needs no more tokens
        self.loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[tuple[int, NewToken | BaseException]] = asyncio.Queue()

    async def tokens(self, seconds: float) -> AsyncIterator[tuple[int, NewToken]]:
        """Yield the new tokens, each with the number of its answer, to the end of all answers.

        TimeoutError if that takes more than `seconds`.
        """
        unfinished, deadline = len(self.completions), self.loop.time() + seconds
        while unfinished:
            async with asyncio.timeout_at(deadline):
                number, item = await self.items.get()
            error = item if isinstance(item, BaseException) else item.error
            if error is not None:
                raise error
            assert isinstance(item, NewToken)
            unfinished -= item.finish is not None
            yield number, item

    def leave(self) -> None:
        """Free the rows of the answers before the next step."""
        self.gone = True


class Lane:
    """One batch, and the answers that wait for a row in it; in the model's thread."""

    def __init__(self, make: MakeBatch) -> None:
        """Take what makes the batch; it is made with the first answer."""
        self.pending: deque[tuple[Answers, int]] = deque()
        self.live: dict[int, tuple[Answers, int]] = {}
        self._make = make
        self._batch: Batch | None = None

    def forget(self) -> None:
        """Forget the answers that wait and whose clients are gone; under the worker's lock."""
        if any(answers.gone for answers, _ in self.pending):
            self.pending = deque(each for each in self.pending if not each[0].gone)

    def step(self, lock: AbstractContextManager[object]) -> None:
        """Let answers leave and join, and draw one token of each; never raises."""
        try:
            batch = self._batch = self._batch or self._make()
            self._leave(batch)
            with lock:
                self.forget()
                self._join(batch)
            drawn = batch.step() if self.live else []
            items = [(*self.live[handle], token) for handle, token in drawn]
            for handle, token in drawn:
                if token.finish is not None:
                    del self.live[handle]
            _give(items)
        except BaseException as error:  # the batch may be half changed: its answers fail
            with lock:
                self._fail(error)

    def _leave(self, batch: Batch) -> None:
        for handle in [h for h, (answers, _) in self.live.items() if answers.gone]:
            del self.live[handle]
            batch.remove(handle)

    def _join(self, batch: Batch) -> None:
        """Add the answers that wait as long as they fit, in their order."""
        while self.pending:
            answers, number = self.pending[0]
            completion = answers.completions[number]
            try:
                batch.check(completion)
                if not batch.fits(completion):
                    if self.live:
                        return
                    raise ResourceError("the answer needs more memory than the server has")
                handle = batch.add(completion)
            except Exception as error:
                self._refuse(error)
                continue
            self.live[handle] = self.pending.popleft()

    def _refuse(self, error: BaseException) -> None:
        _give([(*self.pending.popleft(), error)])

    def _fail(self, error: BaseException) -> None:
        """Give the error to all live answers; or, if none is live, to the first that waits."""
        failed = [*self.live.values()] or [self.pending.popleft() for _ in [*self.pending][:1]]
        self.live, self._batch = {}, None
        _give([(*each, error) for each in failed])


def _give(items: Sequence[Item]) -> None:
    """Hand items to the threads of their clients."""
    for loop in {answers.loop for answers, _, _ in items}:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_put, [x for x in items if x[0].loop is loop])


def _put(items: Sequence[Item]) -> None:
    for answers, number, item in items:
        answers.items.put_nowait((number, item))
