"""Shards made on many machines, by datatrove's executors on Ray or Slurm.

A shard needs nothing but its task, the store on a disk that all machines share, and Broadbase
installed there. datatrove schedules, repeats what failed and keeps the logs.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadbase.core.errors import ConfigError, PreemptedError, ResourceError
from broadbase.core.extras import require_extra
from broadbase.data.store.requests import ShardTask
from broadbase.data.store.shards import write_shard
from broadbase.data.store.workers import Progress

RANKS = 4  # a process, one after another: a rank costs a start, but evens out long shards
ENVIRONMENT = "source {prefix}/bin/activate"  # on Slurm's nodes: the same one as here


@dataclass(frozen=True)
class WriteShards:
    """A step of a datatrove pipeline, without documents: rank r of n makes shards r, r + n, ..."""

    tasks: tuple[ShardTask, ...]

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        """Make the shards of one rank that nobody has made yet."""
        for task in self.tasks[rank::world_size]:
            if not task.target.exists():
                write_shard(task)
        return ()

    def __repr__(self) -> str:
        """Return how many shards it makes."""
        return f"{len(self.tasks)} shards"


def on_ray() -> Progress:
    """Make shards on the Ray cluster that RAY_ADDRESS names, or on one of this machine's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    ray = require_extra("ray", "cluster", "preparing on Ray")
    executors = require_extra("datatrove.executor.ray", "cluster", "preparing on Ray")

    def run(tasks: Sequence[ShardTask], processes: int) -> None:
        if not tasks:
            return
        started_here = not ray.is_initialized()
        if started_here:
            ray.init(
                num_cpus=None if "RAY_ADDRESS" in os.environ else processes,
                include_dashboard=False,
                log_to_driver=False,
            )
        try:
            executors.RayPipelineExecutor(
                pipeline=[WriteShards(tuple(tasks))],
                tasks=min(len(tasks), RANKS * processes),
                workers=processes,
                mem_per_cpu_gb=1,
                logging_dir=str(_logs(tasks)),
                skip_completed=False,
            ).run()
        finally:
            if started_here:
                ray.shutdown()
        if lacking := [task for task in tasks if not task.target.exists()]:
            raise ResourceError(
                f"{len(lacking)} of {len(tasks)} shards were not made, the first of"
                f" {lacking[0].parts[0].name}; the reason is in {_logs(tasks) / 'logs'}. Run the"
                " same command again: finished shards are kept"
            )

    return run


def on_slurm(partition: str, hours: int = 4) -> Progress:
    """Submit the shards to Slurm as one job array; the same command later finds them made."""
    executors = require_extra("datatrove.executor.slurm", "cluster", "preparing on Slurm")

    def run(tasks: Sequence[ShardTask], processes: int) -> None:
        if not tasks:
            return
        try:
            executors.SlurmPipelineExecutor(
                pipeline=[WriteShards(tuple(tasks))],
                tasks=min(len(tasks), RANKS * processes),
                workers=processes,
                time=f"{hours}:00:00",
                partition=partition,
                job_name="broadbase-prepare",
                env_command=ENVIRONMENT.format(prefix=sys.prefix),
                logging_dir=str(_logs(tasks)),
                skip_completed=False,
            ).run()
        except FileNotFoundError:
            raise ConfigError(
                "preparing on Slurm needs its command sbatch, which is not here; run this on a"
                " login node of the cluster"
            ) from None
        raise PreemptedError(
            f"{len(tasks)} shards were submitted to Slurm, with logs in {_logs(tasks)}; run the"
            " same command again when the job has ended: it joins them into the store"
        )

    return run


def _logs(tasks: Sequence[ShardTask]) -> Path:
    """Return a folder next to the stores, the same for the same shards."""
    name = hashlib.sha256("".join(task.target.name for task in tasks).encode()).hexdigest()[:8]
    return tasks[0].folder.absolute().parent / "logs" / name
