"""A run in a line: what it learns, how far it is, and its newest numbers.

Of the config the head is read, and of the journal its end. Both are kept until the files change.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from broadbase.core.trees import MOST_BYTES
from broadbase.run.evaluation import baselines
from broadbase.run.journal import rows
from broadbase.run.process import LAST_ERROR, Status, status

END = 1 << 16  # bytes of the journal that are read
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Head:
    """What the config of a run says of it."""

    recipe: str
    objective: str
    sources: tuple[str, ...]
    steps: int
    store: str | None = None  # of the prepared data, where it is not in the run


@dataclass(frozen=True)
class Score:
    """The newest score on held-out data, and that of the best baseline."""

    source: str
    value: float
    in_bits: bool
    baseline: tuple[str, float] | None = None


@dataclass(frozen=True)
class Summary:
    """A run in a line."""

    name: str
    head: Head
    step: int
    rate: float  # tokens a second, of the last steps
    seconds_per_step: float
    scores: tuple[Score, ...]
    changed: float  # when the run last wrote something, in seconds since 1970
    status: Status

    @property
    def seconds_left(self) -> float | None:
        """The seconds of the steps that are left, where it trains."""
        if self.status.state != "training" or not self.seconds_per_step:
            return None
        return (self.head.steps - self.step) * self.seconds_per_step


class Summaries:
    """Summaries of runs, read anew when their files change."""

    def __init__(self) -> None:
        """Begin with none."""
        self._heads: dict[Path, tuple[object, Head]] = {}
        self._ends: dict[Path, tuple[object, tuple[int, float, float, tuple[Score, ...]]]] = {}

    def of(self, folder: Path) -> Summary:
        """Return the summary of a run; a config that cannot be read gives an empty head."""
        config, metrics = folder / "config.yaml", folder / "metrics.jsonl"
        stamp = stamp_of(config)
        if self._heads.get(config, (None,))[0] != stamp:
            self._heads[config] = (stamp, _head(config))
        head = self._heads[config][1]
        both = (stamp_of(metrics), stamp_of(folder / "evaluation.json"))
        if self._ends.get(metrics, (None,))[0] != both:
            self._ends[metrics] = (both, _end(metrics))
        step, rate, seconds, scores = self._ends[metrics][1]
        state = status(folder, done=step >= head.steps > 0)
        return Summary(folder.name, head, step, rate, seconds, scores, changed(folder), state)


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def changed(folder: Path) -> float:
    """Return when a run last wrote something, in seconds since 1970."""
    times = [0.0]
    for name in ("config.yaml", "metrics.jsonl", LAST_ERROR):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)


def _head(path: Path) -> Head:
    try:
        with path.open("rb") as file:
            tree = yaml.load(file.read(MOST_BYTES), Loader)
        sources = tuple(map(str, tree["data"]["sources"]))
        steps, store = int(tree["train"]["steps"]), tree["data"].get("store")
        objective = str(tree["objective"]["name"])
        return Head(str(tree["recipe"]), objective, sources, steps, store and str(store))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        return Head("unknown", "unknown", (), 0)


def _end(path: Path) -> tuple[int, float, float, tuple[Score, ...]]:
    """Return step, rate, seconds of a step and scores from the end of a journal."""
    trained: list[Mapping[str, Any]] = []
    newest: Mapping[str, Any] = {}
    with suppress(OSError), path.open("rb") as file:
        size = path.stat().st_size
        for length in (END, 8 * END):
            file.seek(max(0, size - length))
            block = file.read(length)
            block = block[block.find(b"\n") + 1 :] if size > length else block
            read = rows(block[: block.rfind(b"\n") + 1])
            trained = [row for row in read if "loss" in row][-50:]
            newest = next((row for row in reversed(read) if "validation" in row), {})
            if newest or size <= length:
                break
    tokens, seconds = (sum(_number(r.get(k)) for r in trained) for k in ("tokens", "seconds"))
    step = max((int(row["step"]) for row in trained[-1:]), default=0)
    rate, each = (tokens / seconds if seconds else 0.0), seconds / max(len(trained), 1)
    return step, rate, each, tuple(_scores(path.parent, newest))


def _scores(folder: Path, row: Mapping[str, Any]) -> list[Score]:
    nats, bits = row.get("validation"), row.get("validation_bits")
    if not isinstance(nats, dict) or not isinstance(bits, dict):
        return []
    values = {**nats, **bits}
    scores = []
    for name, value in values.items():
        if isinstance(value, int | float):
            best = min(baselines(folder, name).items(), key=lambda each: each[1], default=None)
            scores.append(Score(name, float(value), name in bits, best))
    return scores


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
