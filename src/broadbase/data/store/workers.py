"""Who makes the shards: this process, or several of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as Bar,
)

from broadbase.core.errors import ResourceError
from broadbase.core.processes import end_with_parent, no_main
from broadbase.data.store.requests import ShardTask
from broadbase.data.store.shards import write_shard

Progress = Callable[[Sequence[ShardTask], int], None]  # makes all shards, by so many processes


def run_here(tasks: Sequence[ShardTask], processes: int) -> None:
    """Make all shards, in silence."""
    for _ in _made(tasks, processes):
        pass


def run_shown(console: Console) -> Progress:
    """Make all shards with a bar on a console: bytes read, rate and time left."""

    def run(tasks: Sequence[ShardTask], processes: int) -> None:
        columns = (TextColumn("preparing"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bar(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            total = bar.add_task("", total=sum(task.size for task in tasks))
            for task in _made(tasks, processes):
                bar.advance(total, task.size)

    return run


def _made(tasks: Sequence[ShardTask], processes: int) -> Iterator[ShardTask]:
    processes = min(processes, len(tasks))
    if processes <= 1:
        for task in tasks:
            write_shard(task)
            yield task
        return
    context = multiprocessing.get_context("forkserver")
    kinds = {type(part).__module__ for t in tasks for part in (t, t.source, t.modality)}
    context.set_forkserver_preload(sorted(kinds))  # imported once, its memory shared
    child, parent = context.Pipe(duplex=False)
    with (
        child,
        parent,
        ProcessPoolExecutor(processes, context, end_with_parent, (child,)) as pool,
    ):
        with no_main():
            futures = {pool.submit(write_shard, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process was killed, likely for want of memory; finished shards are kept:"
                " run the same command again with fewer processes (data.processes)"
            ) from None
        except BaseException:
            parent.close()  # the workers end at once, whatever they do
            raise
        finally:
            pool.shutdown(cancel_futures=True)
