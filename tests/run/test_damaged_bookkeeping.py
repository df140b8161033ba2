"""Damaged bookkeeping of a run or its data: a message and an exit code, never a traceback."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError
from support.runs import pretrain, weights

BOOKKEEPING = (
    "config.yaml",
    "env.json",
    "metrics.jsonl",
    "lock",
    "data/settings.json",
    "data/joined.json",
    "data/bytes/manifest.json",
    "data/bytes/source.json",
    "data/bytes/codec/modality.json",
    "data/bytes/duplicates.jsonl",
    "data/bytes/rejected.jsonl",
    "data/bytes/shards/*/shard.json",
    "checkpoints/step-000004/COMPLETE",
    "checkpoints/step-000004/meta.json",
    "checkpoints/step-000002/COMPLETE",
)
FULL = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'"a"',
    b"\xff\xfe\x00",
    b"{",
    b"[" * 100_000,
    b"\x00" * 9,
)


def damage(run: Path, rng: random.Random) -> str:
    """Spoil one file of a run; which and how."""
    (path, *_) = run.glob(rng.choice(BOOKKEEPING))
    before = path.read_bytes()
    at = rng.randrange(len(before) + 1)
    match rng.randrange(5):
        case 0:
            path.write_bytes(rng.choice(FULL))
        case 1:
            path.write_bytes(before[:at])
        case 2:
            path.write_bytes(before[:at] + rng.randbytes(3) + before[at + 3 :])
        case 3:
            values = (b'"x"', b"[]", b"-1", b"{}", b"null", b"1e999", b"9" * 30)
            words = before.replace(b":", b": ").split(b" ")
            words[rng.randrange(len(words))] = rng.choice(values)
            path.write_bytes(b" ".join(words))
        case 4:
            path.unlink()
            if rng.random() < 0.5:
                path.mkdir()
    return f"{path.relative_to(run)}: {path.read_bytes()[:80] if path.is_file() else 'no file'!r}"


def tried(data: Path, folder: Path, seeds: range) -> None:
    pretrain(data, folder / "whole")
    done = 0
    for seed in seeds:
        rng, run = random.Random(seed), folder / "run"
        shutil.copytree(folder / "whole", run)
        what = damage(run, rng)
        for words in (("resume", run), ("inspect", run), ("evaluate", run)):
            result = CliRunner().invoke(app, [str(word) for word in words])
            error = result.exception
            fine = error is None or isinstance(error, BroadbaseError | OSError | SystemExit)
            assert fine, f"seed {seed}, {words[0]}, {what}: {error!r}"
            if words[0] == "resume" and error is None:
                assert weights(run) == weights(folder / "whole"), f"seed {seed}, {what}"
                done += 1
        shutil.rmtree(run)
    print(f"{done} of {len(seeds)} resumed")


def test_damaged_bookkeeping(data: Path, tmp_path: Path) -> None:
    tried(data, tmp_path, range(8))


@pytest.mark.slow
def test_much_damaged_bookkeeping(data: Path, tmp_path: Path) -> None:
    tried(data, tmp_path, range(8, 120))
