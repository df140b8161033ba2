"""The Slurm script: what it asks for, that bash reads it, and what it does with exit codes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from broadbase.commands import main
from broadbase.core.errors import ConfigError
from broadbase.train.slurm import script

COMMAND = ["pretrain", "text", "--data", "my corpus", "--out", "runs/a b"]
# Slurm is not here: its two commands as a node with two tasks would answer
SRUN = """#!/bin/bash
shift
code=0
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'first\\nsecond\\n'; else echo "$@" >> requeued; fi
"""
BROADBASE = """#!/bin/bash
printf '%s|' "$RANK" "$LOCAL_RANK" "$WORLD_SIZE" "$MASTER_ADDR" "$MASTER_PORT" "$@" >> said
echo >> said
exit "$(cat code)"
"""


def submit(folder: Path, code: int) -> int:
    """The exit code of the script where every rank ends with `code`."""
    commands = {"srun": SRUN, "scontrol": SCONTROL, "broadbase": BROADBASE}
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "code").write_text(str(code))
    (folder / "said").unlink(missing_ok=True)
    text = script(COMMAND, 1, 2, "1:00:00", "long", gpus=True)
    slurm = {"SLURM_JOB_ID": "70123", "SLURM_JOB_NODELIST": "n", "SLURM_NTASKS": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", text], cwd=folder, env=environment, check=False).returncode


def test_it_asks_for_what_was_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sbatch", "--nodes", "2", "--ranks", "8", "--partition", "long", "--", *COMMAND]
    main.app(words, standalone_mode=False)
    text = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    for line in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "partition=long", "requeue"):
        assert f"\n#SBATCH --{line}\n" in text
    assert "set -- pretrain text --data 'my corpus' --out 'runs/a b'" in text
    assert "gpus" not in script(COMMAND, 1, 2, "1:00:00", None, gpus=False)


def test_preempted_it_is_requeued_and_resumes(tmp_path: Path) -> None:
    assert submit(tmp_path, 75) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 70123\n"
    line = "{0}|{0}|2|first|30123|pretrain|text|--data|my corpus|--out|runs/a b|\n"
    assert (tmp_path / "said").read_text() == line.format(0) + line.format(1)
    (tmp_path / "runs" / "a b").mkdir(parents=True)
    (tmp_path / "runs" / "a b" / "config.yaml").write_text("")
    assert submit(tmp_path, 0) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 70123\n"
    assert "|resume|runs/a b|\n" in (tmp_path / "said").read_text()


def test_an_error_is_not_requeued(tmp_path: Path) -> None:
    assert submit(tmp_path, 4) == 4
    assert not (tmp_path / "requeued").exists()


def test_a_run_without_a_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="must agree on the run's folder"):
        script(["pretrain", "text"], 1, 1, "1:00:00", None, gpus=False)
