"""What the routes of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from broadbase.inference.base import Base
from broadbase.inference.batching import Batch
from broadbase.serve.lane import Answers
from broadbase.serve.meters import Meters
from broadbase.serve.served import Served
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker

R = TypeVar("R")


def silent(line: str) -> None:
    """Write nothing."""


GONE = 499  # the status in the log of a request whose client hung up


@dataclass(frozen=True)
class Service:
    """The bases, the thread that computes, the settings, and the counts of a server."""

    served: Served
    worker: Worker
    settings: ServeConfig
    meters: Meters = field(default_factory=Meters)
    say: Callable[[str], None] = silent  # writes a line of the log

    def base(self, name: str) -> Base:
        """Return the base of a name; HTTPException 404 lists the names."""
        if name in self.served.bases:
            return self.served.bases[name]
        if name in self.served.adapted:
            raise HTTPException(
                400, f"model: {name!r} is an adapted base; ask /b/predict/{name} for predictions"
            )
        if name in self.served.adapters:
            raise HTTPException(
                400, f"model: {name!r} is an adapter, for /v1/completions and chats alone"
            )
        names = ", ".join([*self.served.bases, *self.served.adapters]) or "none"
        raise HTTPException(404, f"model: no base is called {name!r}; this server has: {names}")

    def generator(self, name: str) -> tuple[str, str | None]:
        """Return the name of the base that generates, and its adapter; 404 as `base`."""
        adapter = name if name in self.served.adapters else None
        return self.served.adapters.get(name, name), adapter

    async def job(self, job: Callable[..., R], *args: Any) -> R:
        """Return what `job(*args)` returns, from the thread that computes; 504 if it takes long.

        FullError if too many requests wait.
        """
        limit = self.settings.seconds
        try:
            return await asyncio.wait_for(self.worker.run(job, *args), limit)
        except TimeoutError:
            raise HTTPException(
                504, f"the answer took more than {limit:g} s; ask for less"
            ) from None

    def draw(self, name: str, base: Base, answers: Answers) -> None:
        """Draw answers of a base side by side; FullError if too many requests wait."""
        mixture, rows = self.served.mixtures.get(name), self.settings.rows
        self.worker.draw(name, lambda: Batch(base, rows=rows, adapters=mixture), answers)

    def log_prompt(self, prompt: object) -> None:
        """Write a prompt into the log, if the settings say so."""
        if self.settings.log_prompts:
            self.say(f"prompt {str(prompt)[:10_000]!r}")


async def unless_gone(request: Request, work: Awaitable[R]) -> R:
    """Return the result of `work`, which is cancelled if the client hangs up: HTTPException 499."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(GONE, "the client is gone")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
