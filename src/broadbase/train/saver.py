"""A saver of checkpoints, which writes them while the loop goes on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from broadbase.core.errors import BroadbaseError, ResourceError
from broadbase.train.checkpoint import Groups, prune, save


class Saver:
    """Saves while the loop goes on, one checkpoint at a time; the context's end waits for the last.

    `peers` are the ranks that save together, by a group that nothing else talks in. ResourceError
    of a save comes with the next, or with `wait`. Where an error ends the context, a save of
    several ranks is waited for only if all of them have that error: a lost rank never comes.
    """

    def __init__(
        self,
        folder: Path,
        keep_last: int = 2,
        keep_every: int | None = None,
        peers: dist.ProcessGroup | None = None,
    ) -> None:
        """Take the folder, what to keep in it, and the group that saves together."""
        self.folder, self.keep_last, self.keep_every = folder, keep_last, keep_every
        self.peers = peers
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Saver:
        """Return the saver."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait for the last save, and end the thread that writes."""
        if kind is None:
            self.wait()
        elif self.peers is None or issubclass(kind, BroadbaseError):
            with suppress(ResourceError):  # the error on its way says more
                self.wait()

    def save(self, step: int, tensors: Groups, identity: Mapping[str, Any]) -> None:
        """Copy the tensors and return; they may change at once, while the copy is written."""
        self.wait()
        contiguous = torch.contiguous_format  # safetensors takes nothing else
        copies = {
            group: {
                name: value.detach().to("cpu", copy=True, memory_format=contiguous)
                for name, value in each.items()
            }
            for group, each in tensors.items()
        }
        self._pending = self._thread.submit(self._write, step, copies, identity)

    def wait(self) -> None:
        """Wait until what was given is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, tensors: Groups, identity: Mapping[str, Any]) -> None:
        save(self.folder, step, tensors, identity, self.peers)
        if self.peers is None or self.peers.rank() == 0:
            prune(self.folder, step, self.keep_last, self.keep_every)
