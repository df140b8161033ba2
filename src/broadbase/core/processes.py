"""Processes that work for another: they start light, and end when it ends, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any


@contextmanager
def no_main() -> Iterator[None]:
    """Workers started in here do not import the program that started them: 150 MB each, 1.5 s.

    While the block runs, the main module looks as if it came from no file.
    """
    main = vars(sys.modules["__main__"])
    names = ("__spec__", "__file__")
    kept: dict[str, Any] = {name: main.pop(name) for name in names if name in main}
    try:
        main["__spec__"] = None  # multiprocessing reads it without a default
        yield
    finally:
        del main["__spec__"]
        main.update(kept)


def end_with_parent(link: Connection | None = None) -> None:
    """In a process that `multiprocessing` started: end it when its parent has ended.

    A daemon process ends only where its parent exits normally; where the parent is killed, it
    waits for ever. Call it first thing in the worker, as its initializer. It ends, too,
    when the parent closes the other end of `link`. Ctrl-C, which the terminal sends to all, is
    left to the parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ends: list[Any] = [parent.sentinel, *([link] if link else [])]

    def watch() -> None:
        wait(ends)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
