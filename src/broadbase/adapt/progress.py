"""How far a long piece of work is, on a console: a bar on a terminal, a line now and then in a
log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY = 10.0  # seconds from line to line in a log, by default


class Progress:
    """The work of one phase after another, with the time left of each; no console: silent."""

    def __init__(self, console: Console | None = None, every: float | None = None) -> None:
        """Take the console to show progress on; None shows nothing. `every`: by default `EVERY`."""
        self._console, self._every = console, EVERY if every is None else every
        self._bar = _bar(console) if console is not None and console.is_terminal else None
        self._what, self._total, self._count = "", 0, 0
        self._began = self._said = 0.0

    @contextmanager
    def phase(self, what: str, total: int) -> Iterator[None]:
        """Show a piece of work in this context, whose `done` counts up to `total`."""
        self._what, self._total, self._count = what, total, 0
        self._began = self._said = time.monotonic()
        if self._bar is None or not total:
            yield
            return
        with self._bar:
            row = self._bar.add_task(what, total=total)
            try:
                yield
            finally:
                self._bar.remove_task(row)

    def done(self, count: int) -> None:
        """So much more of the phase is finished."""
        self._count += count
        if self._bar is not None and self._bar.task_ids:
            self._bar.advance(self._bar.task_ids[-1], count)
        now = time.monotonic()
        if self._console is None or self._bar is not None or now - self._said < self._every:
            return
        self._said = now
        left = (now - self._began) * (self._total / max(1, self._count) - 1)
        line = f"{self._what}: {self._count:,} of {self._total:,}, {left:,.0f} s left"
        self._console.print(line, soft_wrap=True)


def _bar(console: Console) -> Bar:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Bar(*columns, TimeRemainingColumn(), console=console, transient=True)
