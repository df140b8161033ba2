"""One base that is tried on one record, and what comes of it: tokens, and parts of a page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from broadbase.inference.base import Base
from broadbase.inference.streaming import Streamed
from broadbase.serve.worker import Worker
from broadbase.studio.bases import Description
from broadbase.studio.inputs import Given
from broadbase.studio.run_data import RunData
from broadbase.studio.shown import Files

R = TypeVar("R")


@dataclass(frozen=True)
class Part:
    """A part of a page: a template of templates/ and its values; `target` is what it replaces."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True)
class Token:
    """A token of one of the lanes of an answer: 0 is the base, 1 its baseline."""

    lane: int
    token: Streamed


Event = Part | Token
Events = AsyncIterator[Event]


@dataclass(frozen=True)
class Trial:
    """A base, what it is given, and what answering takes."""

    description: Description
    base: Base
    space: str  # the modality by which the record is read
    record: Any
    what: Given
    worker: Worker
    data: RunData
    files: Files

    @property
    def kind(self) -> str:
        """The kind of its modality."""
        return self.description.modalities[self.space]

    async def compute(self, job: Callable[..., R], *args: Any) -> R:
        """Return what a job gives in the thread that computes."""
        return await self.worker.run(job, *args)
