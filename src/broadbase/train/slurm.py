"""A Slurm script for a command that trains: as many ranks as wanted, requeued when preempted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from broadbase.core.errors import ConfigError

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={ranks}
{gpus}#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
{partition}
# Every task is a rank. srun starts them and not torchrun, which would hide their exit code.
export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_PORT="$((20000 + SLURM_JOB_ID % 20000))"
export WORLD_SIZE="$SLURM_NTASKS"
if [ -e {folder}/config.yaml ]; then
  set -- resume {folder}
else
  set -- {command}
fi
trap : TERM  # the ranks get the signal too: this shell waits until they have saved themselves
srun --wait=120 bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec broadbase "$@"' - "$@"
code=$?
if [ "$code" -eq 75 ]; then  # stopped by a signal, and saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def script(
    command: Sequence[str], nodes: int, ranks: int, time: str, partition: str | None, *, gpus: bool
) -> str:
    """Write a script for `sbatch` that runs `broadbase COMMAND` on `nodes` times `ranks` processes.

    A requeued job resumes the run. ConfigError where the command is not `pretrain` with --out.
    """
    if not command or command[0] != "pretrain" or "--out" not in command[:-1]:
        raise ConfigError(
            "a script is made for `pretrain ... --out FOLDER`: all ranks, and the job when it is"
            " requeued, must agree on the run's folder"
        )
    folder = command[list(command).index("--out") + 1]
    return SCRIPT.format(
        name=shlex.quote(Path(folder).name),
        nodes=nodes,
        ranks=ranks,
        gpus=f"#SBATCH --gpus-per-node={ranks}\n" if gpus else "",
        time=time,
        partition=f"#SBATCH --partition={partition}\n" if partition else "",
        folder=shlex.quote(folder),
        command=shlex.join(command),
    )
