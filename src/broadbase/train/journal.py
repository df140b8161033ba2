"""What a run tells: metrics.jsonl for machines, one live line for the person at the terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Journal:
    """Appends to `path` (None: nowhere) and shows progress on `console` (None: silent).

    `bits` turns nats a place into bits a unit (a byte, a pixel), by term; a term without an entry
    is shown in nats.
    """

    def __init__(
        self,
        path: Path | None = None,
        console: Console | None = None,
        *,
        steps: int = 0,
        bits: Mapping[str, float] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.console, self.steps = path, console, steps
        self.bits, self.units = dict(bits or {}), dict(units or {})
        self._seconds = self._places = 0.0
        self._shown = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> Journal:
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
        if self._progress is not None:
            self._progress.stop()

    def stepped(
        self,
        step: int,
        losses: Mapping[str, float],
        norm: float,
        places: float,
        seconds: float,
        watched: Mapping[str, float] | None = None,
    ) -> None:
        """Note a training step: losses in nats a place, places scored, seconds taken.

        What is `watched` besides is shown as it is.
        """
        row: dict[str, Any] = {"step": step, "loss": dict(losses), "norm": norm, "places": places}
        row |= {"watched": dict(watched)} if watched else {}
        self._write({**row, "bits": self._bits(losses), "seconds": seconds})
        self._seconds, self._places = self._seconds + seconds, self._places + places
        self._show(step, {**losses, **(watched or {})})

    def evaluated(self, step: int, losses: Mapping[str, float]) -> None:
        """Note an evaluation on held-out data."""
        row = {"step": step, "validation": dict(losses), "validation_bits": self._bits(losses)}
        self._write(row)
        self.say(f"step {step:>6}  held out: {self._words(losses)}")

    def say(self, line: str) -> None:
        """Show a line."""
        if self.console is not None:
            self.console.print(line, highlight=False, soft_wrap=True)

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`, as a resumed run will write it again."""
        if self.path is None or not self.path.exists():
            return
        kept = [row for row in read(self.path) if row["step"] <= step]
        draft = self.path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(row) + "\n" for row in kept))
        draft.replace(self.path)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        rate = self._places / max(self._seconds, 1e-9)
        line = f"{self._words(losses)}  {rate:,.0f} places/s"
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=step, description=line)
        elif self.console is not None and time.monotonic() - self._shown > 10:
            left = (self.steps - step) * self._seconds / max(step, 1)
            self.say(f"step {step:>6}/{self.steps}  {line}  {left:,.0f} s left")
            self._shown = time.monotonic()

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
    """The rows of a metrics.jsonl; a last line cut off by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def bits_per_unit(places: int, units: int) -> float:
    """What turns nats a place into bits a unit, where `places` places stand for `units` units."""
    return places / max(units, 1) / math.log(2)
