"""What a run reports: metrics.jsonl for machines, one live line for the person at the terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from broadbase.core.errors import ResourceError
from broadbase.core.files import write_text
from broadbase.train.tracker import Guarded

SOON = 3  # steps after which the time of a run is estimated


class MetricsLog:
    """Appends to `path` (None: nowhere) and shows progress on `console` (None: silent).

    `bits` turns nats per token into bits per unit (a byte, a pixel), by term; a term without an
    entry is shown in nats.
    """

    def __init__(
        self,
        path: Path | None = None,
        console: Console | None = None,
        *,
        steps: int = 0,
        bits: Mapping[str, float] | None = None,
        units: Mapping[str, str] | None = None,
        tracker: Guarded | None = None,
    ) -> None:
        """Take the file, the console, the number of steps, the units of the terms, a tracker."""
        self.path, self.console, self.steps = path, console, steps
        self.bits, self.units = dict(bits or {}), dict(units or {})
        self.tracker = tracker
        self._seconds = self._tokens = 0.0
        self._steps = 0  # of this process: a resumed run has more
        self._shown = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> MetricsLog:
        """Start the live line, where the console is a terminal."""
        if self.console is not None and self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.completed:>6}/{task.total}"),
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(compact=True),
                console=self.console,
            )
            self._progress.add_task("starting", total=self.steps)
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the live line."""
        if self._progress is not None:
            self._progress.stop()
        if self.tracker is not None:
            self.tracker.finish()

    def stepped(
        self,
        step: int,
        losses: Mapping[str, float],
        norm: float,
        tokens: float,
        seconds: float,
        watched: Mapping[str, float] | None = None,
    ) -> None:
        """Note a training step: losses in nats per token, tokens scored, seconds taken.

        The other numbers in `watched` are shown as they are.
        """
        row: dict[str, Any] = {"step": step, "loss": dict(losses), "norm": norm, "tokens": tokens}
        row |= {"watched": dict(watched)} if watched else {}
        self._write({**row, "bits": self._bits(losses), "seconds": seconds})
        self._seconds, self._tokens = self._seconds + seconds, self._tokens + tokens
        self._steps += 1
        rate = tokens / max(seconds, 1e-9)
        shown = {"norm": norm, "tokens_per_second": rate, **(watched or {})}
        self._track(step, "training", losses, shown)
        self._show(step, {**losses, **(watched or {})})

    def evaluated(self, step: int, losses: Mapping[str, float]) -> None:
        """Note an evaluation on held-out data."""
        row = {"step": step, "validation": dict(losses), "validation_bits": self._bits(losses)}
        self._write(row)
        self._track(step, "held_out", losses)
        self.say(f"step {step:>6}  validation: {self._words(losses)}")

    def changed(self, step: int, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """Note settings that a run goes on with after `step`, each with its value before."""
        row = {"step": step, "changed": {name: list(pair) for name, pair in changes.items()}}
        self._write(row)
        for name, (before, after) in changes.items():
            self.say(f"step {step:>6}  {name}: {before} became {after}")

    def say(self, line: str) -> None:
        """Show a line."""
        if self.console is not None:
            self.console.print(line, highlight=False, soft_wrap=True)

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`, as a resumed run will write it again.

        The settings that an earlier resume changed there are forgotten too.
        """
        if self.path is not None:
            rewrite(self.path, lambda r: (r["step"], "changed" in r) <= (step, False))

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise ResourceError(
                f"{self.path} cannot be written: {error.strerror or error}; free space or"
                f" permissions there, then `broadbase resume {self.path.parent}`"
            ) from None

    def _track(
        self,
        step: int,
        kind: str,
        losses: Mapping[str, float],
        others: Mapping[str, float] | None = None,
    ) -> None:
        """Show a tracker what was written, in bits per unit where a term has them."""
        if self.tracker is not None and self.path is not None:
            values = {**losses, **self._bits(losses)}
            named = {f"{kind}/{name}": value for name, value in values.items()}
            self.tracker.log(step, named | dict(others or {}))

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        rate = self._tokens / max(self._seconds, 1e-9)
        line = f"{self._words(losses)}  {rate:,.0f} tokens/s"
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=step, description=line)
        elif self.console is not None and time.monotonic() - self._shown > 10:
            self.say(f"step {step:>6}/{self.steps}  {line}  {self._left(step)} left")
            self._shown = time.monotonic()
        elif self._steps == SOON and step < self.steps:
            self.say(f"about {self._left(step)} to step {self.steps}, without evaluations")

    def _left(self, step: int) -> str:
        """Estimate the time of the steps after `step` from the steps of this process."""
        seconds = (self.steps - step) * self._seconds / max(self._steps, 1)
        if seconds < 100:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

    def _bits(self, losses: Mapping[str, float]) -> dict[str, float]:
        return {name: losses[name] * self.bits[name] for name in losses if name in self.bits}

    def _words(self, losses: Mapping[str, float]) -> str:
        bits = self._bits(losses)
        return "  ".join(
            f"{name} {bits[name]:.3f} bits/{self.units.get(name, 'unit')}"
            if name in bits
            else f"{name} {loss:.3f}"
            for name, loss in losses.items()
        )


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a metrics.jsonl, without lines that are cut off by a crash."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int:
                rows.append(row)
    return rows


def rewrite(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Keep some rows of a file that `read` reads, and remove the others; nothing without a file."""
    if path.exists():
        kept = filter(keep, read(path))
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def bits_per_unit(tokens: int, units: int) -> float:
    """Return the factor from nats per token to bits per unit, for `tokens` tokens of `units`."""
    return tokens / max(units, 1) / math.log(2)
