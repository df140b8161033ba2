"""What changes while a run trains: one task for each run watches its files, for all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from broadbase.run.process import LAST_ERROR, PROCESS
from broadbase.run.summary import stamp_of

POLL = 0.5  # seconds between two looks
TICK = 1.0  # seconds after which a viewer hears that nothing changed
FILES = ("metrics.jsonl", "samples.jsonl", "config.yaml", PROCESS, LAST_ERROR, "model")


class Watches:
    """The runs that pages show, each with the task that watches it."""

    def __init__(self) -> None:
        """Watch nothing until a viewer comes."""
        self._viewers: dict[Path, set[asyncio.Event]] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}

    async def changes(self, folder: Path) -> AsyncIterator[bool]:
        """Yield True at first and whenever a file of the run changes, else False each second."""
        changed = asyncio.Event()
        self._viewers.setdefault(folder, set()).add(changed)
        if folder not in self._tasks:
            self._tasks[folder] = asyncio.create_task(self._watch(folder, _stamps(folder)))
        try:
            yield True
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), TICK)
                except TimeoutError:
                    yield False
                    continue
                changed.clear()
                yield True
        finally:
            self._viewers[folder].discard(changed)
            if not self._viewers[folder]:
                del self._viewers[folder]
                self._tasks.pop(folder).cancel()

    @property
    def watched(self) -> int:
        """How many runs are watched."""
        return len(self._tasks)

    async def _watch(self, folder: Path, before: list[object]) -> None:
        while True:
            await asyncio.sleep(POLL)
            stamps = _stamps(folder)
            if stamps != before:
                before = stamps
                for viewer in self._viewers.get(folder, ()):
                    viewer.set()


def _stamps(folder: Path) -> list[object]:
    return [stamp_of(folder / name) for name in FILES]
