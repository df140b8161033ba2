"""Exact resume: whatever interrupts a run, its last weights are those of the uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from support import programs
from support.programs import BROADBASE, Program

STEPS = 36
SETTINGS = [
    f"train.steps={STEPS}",
    "train.save_every=4",
    "train.evaluate_every=18",
    "data.validation_rows=4",
    "data.holdout=0.3",
    "data.sources.bytes.batch_size=4",
    "data.sources.bytes.sequence_length=48",
    "machine.precision=fp32",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files, cut short so that 36 steps are more than two epochs."""
    folder = tmp_path_factory.mktemp("corpus")
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:24]:
        (folder / f"{path.stem}.txt").write_text(path.read_text()[:200])
    return folder


def start(corpus: Path, out: Path, *more: str) -> list[str]:
    settings = [word for s in (*SETTINGS, *more) for word in ("--set", s)]
    where = ("--data", str(corpus), "--depth", "1", "--out", str(out))
    return ["pretrain", "bytes", *where, *settings]


def finish(words: list[str]) -> subprocess.CompletedProcess[str]:
    return programs.run(BROADBASE, *words)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def steps(run: Path) -> list[int]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "broadbase", *start(corpus, run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return run


def interrupt(words: list[str], run: Path, after: int, how: signal.Signals) -> int:
    """Run until `after` steps are written, then send the signal; returns the exit code."""
    process = Program(BROADBASE, *words)
    journal = run / "metrics.jsonl"
    for _ in range(3000):
        if process.poll() is not None:
            break
        if journal.exists() and journal.read_bytes().count(b"\n") >= after:
            time.sleep(random.Random(after).random() * 0.02)
            process.send_signal(how)
            break
        time.sleep(0.01)
    return process.wait(timeout=120)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_twice(corpus: Path, uninterrupted: Path, tmp_path: Path, workers: int) -> None:
    """kill -9 at two moments, the second across an epoch boundary."""
    run, count = tmp_path / "run", f"train.workers={workers}"
    rng = random.Random(workers)
    interrupt(start(corpus, run, count), run, rng.randint(6, 16), signal.SIGKILL)
    assert not (run / "model").exists()
    interrupt(["resume", str(run)], run, rng.randint(20, 30), signal.SIGKILL)
    done = finish(["resume", str(run)])
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert weights(run) == weights(uninterrupted)
    assert steps(run) == list(range(1, STEPS + 1))


def test_sigterm_saves_and_says_so(corpus: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = interrupt(start(corpus, run, "train.save_every=1000"), run, 7, signal.SIGTERM)
    assert code == 75
    (saved,) = (run / "checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) == steps(run)[-1]
    changed = finish(["resume", str(run), "--set", "train.save_every=4"])
    assert changed.returncode == 0, changed.stderr
    assert weights(run) == weights(uninterrupted)


def test_what_changed_is_refused_by_name(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupt(start(corpus, run), run, 10, signal.SIGTERM)
    momentum = finish(["resume", str(run), "--set", "optim.momentum=0.5"])
    assert momentum.returncode == 2
    assert "optim.momentum: 0.95 became 0.5" in momentum.stderr
    mixture = finish(["resume", str(run), "--set", "data.sources.bytes.batch_size=8"])
    assert mixture.returncode == 2
    assert "data.sources.bytes.batch_size: 4 became 8" in mixture.stderr
    first = corpus / "abc.txt"
    before = first.read_text()
    try:
        first.write_text(before + "#")
        data = finish(["resume", str(run)])
        assert data.returncode == 3
        assert "abc.txt" in data.stderr
    finally:
        first.write_text(before)
    (array,) = run.glob("data/bytes/shards/*/values.npy")
    flipped = bytearray(array.read_bytes())
    flipped[-1] ^= 1
    array.write_bytes(flipped)
    store = finish(["resume", str(run)])
    assert store.returncode == 3
    assert "values.npy" in store.stderr


def test_a_damaged_checkpoint_is_skipped(corpus: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupt(start(corpus, run), run, 14, signal.SIGKILL)
    newest = max((run / "checkpoints").glob("step-*"))
    path = newest / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    done = finish(["resume", str(run)])
    assert done.returncode == 0, done.stderr
    assert f"skipped {newest.name}" in done.stderr
    assert weights(run) == weights(uninterrupted)
