"""Nothing of a training that ended outlives it, and no rank waits for ever."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from support.runs import SET, pretrain

LONG = {**SET, "train.steps": 100_000, "train.save_every": 1000}


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        (1, signal.SIGKILL),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_no_process_is_left(
    data: Path,
    tmp_path: Path,
    workers: int,
    how: signal.Signals,
) -> None:
    run = tmp_path / "r"
    settings = {**LONG, "train.workers": workers}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "broadbase", "pretrain", "bytes", "--data", str(data)]
    main = subprocess.Popen(
        [*command, "--depth", "1", "--out", str(run), *words],
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "said").open("wb"),
        start_new_session=True,
    )
    journal = run / "metrics.jsonl"
    until(lambda: journal.exists() and journal.stat().st_size > 500, 120)
    ours = [p for p in psutil.process_iter() if session(p.pid) == main.pid]
    assert len(ours) > workers
    main.send_signal(how)
    assert main.wait(timeout=60) == (-how if how == signal.SIGKILL else 75)
    until(lambda: not [p for p in ours if alive(p)], 10)
    if how == signal.SIGTERM:
        said = (tmp_path / "said").read_text()
        assert "Traceback" not in said
        assert f"`broadbase resume {run}` continues it" in said


def until(what: object, seconds: float) -> None:
    assert callable(what)
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# a rank stops dead in the thread that writes its checkpoint
HANG = """
import os, signal, sys
from pathlib import Path
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.train import checkpoint
write = checkpoint._write
def hanging(draft, tensors, peers):
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGSTOP)
    return write(draft, tensors, peers)
checkpoint._write = hanging
folder = Path(sys.argv[1])
try:
    Run.create(RunConfig.read(folder / "made" / "config.yaml"), folder / "run").train()
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.mark.slow
def test_a_rank_that_hangs_while_a_checkpoint_is_written(data: Path, tmp_path: Path) -> None:
    """The other names it and ends, its own thread included, soon after machine.timeout."""
    pretrain(data, tmp_path / "made")
    config = tmp_path / "made" / "config.yaml"
    text = config.read_text().replace("timeout: 600.0", "timeout: 6.0")
    config.write_text(text.replace("  steps: 4", "  steps: 100000"))
    (tmp_path / "script.py").write_text(HANG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **there, "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    hung = psutil.Process(ranks[1].pid)
    try:
        until(lambda: hung.status() == psutil.STATUS_STOPPED, 120)
        start = time.monotonic()
        said = ranks[0].communicate(timeout=60)[0]
        took = time.monotonic() - start
    finally:
        ranks[1].kill()
        ranks[1].communicate()
    assert ranks[0].returncode == 6, said
    assert "RankError lost rank 1 on" in said
    assert took < 6 + 20
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))
