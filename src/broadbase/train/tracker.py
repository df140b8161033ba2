"""Trackers: other programs that are shown what metrics.jsonl records. That file stays the truth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from broadbase.core.config import Slot

Say = Callable[[str], None]


class Tracker(Protocol):
    """Shows a run elsewhere."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin, or go on after a resume; `config` is that of the run."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of a step, by names as "training/text"."""
        ...

    def finish(self) -> None:
        """End; what was logged is kept."""
        ...


class TrackerConfig(Slot):
    """Where a run is shown besides its own journal."""

    package: ClassVar[str] = "train"

    @abstractmethod
    def build(self, folder: Path) -> Tracker:
        """Return the tracker of the run in `folder`; ConfigError where its package is missing."""


class Guarded:
    """A tracker that cannot stop the training: its first error is said, and it is left alone."""

    def __init__(self, tracker: Tracker, say: Say) -> None:
        """Take the tracker, and what tells the user."""
        self._tracker: Tracker | None = tracker
        self._say = say

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin."""
        self._call(lambda tracker: tracker.start(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of a step."""
        self._call(lambda tracker: tracker.log(step, values))

    def finish(self) -> None:
        """End."""
        self._call(lambda tracker: tracker.finish())

    def _call(self, action: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:
            name, self._tracker = type(self._tracker).__name__, None
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self._say(f"warning: {name} failed ({reason}); the training goes on without it")
