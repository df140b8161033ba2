"""Files decoded apart, by another process: whatever a damaged one does to it, the run goes on.

Libraries in C that read pictures, video or HDF5 can be brought to crash, to hang or to ask for all
memory by a few wrong bytes. A file that does is a Reject like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from upath import UPath

from broadbase.core.errors import ResourceError
from broadbase.core.processes import end_with_parent, no_main
from broadbase.core.sources import Record, Reject

Read = Callable[[UPath], Iterator[Record | Reject]]  # can be pickled
START = 60  # seconds until a process must be there
MEMORY, SHARE = 4 << 30, 0.5  # bytes that a process may ask for; at most half of the machine's
ITEMS, OFTEN = 64, 0.1  # sent together at most, and seconds after which fewer are


def apart(
    read: Read, path: UPath, seconds: float, modules: Sequence[str]
) -> Iterator[Record | Reject]:
    """Yield what `read` gives of a file; a Reject where it dies, or says nothing for `seconds`.

    What it imports is named in `modules`, so that a new process need not import it again.
    """
    reader = _idle.pop() if _idle else _Reader(modules)
    done = False
    try:
        reader.link.send((read, path, Path.cwd()))
        while True:
            if not reader.link.poll(seconds):
                yield Reject(str(path), f"its decoder said nothing for {seconds:g} s: damaged")
                return
            items, error, done = reader.link.recv()
            yield from items
            if done:
                break
    except (EOFError, ConnectionError):
        yield Reject(str(path), "it crashes its decoder: damaged")
        return
    finally:
        if done:
            _idle.append(reader)
        else:
            reader.stop()
    if error is not None:
        raise error


class _Reader:
    """A process that reads one file after another."""

    def __init__(self, modules: Sequence[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *modules])  # all processes share them
        self.link, child_link = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_link,), daemon=True)
        with no_main():
            self.process.start()
        child_link.close()
        if not self.link.poll(START):
            raise ResourceError(f"a process to read files with did not start within {START} s")
        self.link.recv()

    def stop(self) -> None:
        """Kill the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.link.close()


_idle: list[_Reader] = []
os.register_at_fork(after_in_child=_idle.clear)  # another's readers are not ours


def _serve(link: Connection) -> None:
    end_with_parent()
    most = min(MEMORY, int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard < 0 else min(most, hard), hard))
    link.send(None)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # libraries in C write their remarks there; what matters is a Reject
    while True:
        try:
            read, path, here = link.recv()
        except EOFError:
            return
        items: list[Record | Reject] = []
        error, sent = None, time.monotonic()
        try:
            os.chdir(here)  # the process is older than what its parent did since
            for item in read(path):
                items.append(item)
                if len(items) == ITEMS or time.monotonic() - sent > OFTEN:
                    link.send((items, None, False))
                    items, sent = [], time.monotonic()
        except MemoryError:
            items.append(Reject(str(path), f"it takes more than {most >> 20:,} MiB to decode"))
        except Exception as raised:
            error = raised
        link.send((items, error, True))
