"""Killed before any call that changes a file: the next start ends with the same bits, alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from test_run import SET, data  # noqa: F401

# Each try is a fork of a process that has imported everything. It kills itself before its Nth call
# that changes a file below the folder; whoever starts after it is not killed.
SCRIPT = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
import torch, safetensors.torch, grain
from typer.testing import CliRunner
import broadbase.commands.train, broadbase.transfer.adapt, broadbase.measures.measure
from broadbase.commands.options import app
from broadbase.recipes.recipe import all_recipes
all_recipes()
folder, given = Path(sys.argv[1]), json.load(sys.stdin)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def changing(event, args):
    if event == "open":
        path, mode, flags = args
        if not (any(c in mode for c in "wax+") if mode else (flags or 0) & WRITES):
            return False
    elif event not in CHANGES:
        return False
    return isinstance(args[0], (str, os.PathLike)) and str(args[0]).startswith(str(folder))

def attempt(words, last=0):
    "Run a command in a fork; the number of its calls, or None where it was killed before `last`."
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = 0
        def hook(event, args):
            nonlocal seen
            if changing(event, args):
                seen += 1
                if seen == last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        result = CliRunner().invoke(app, words)
        if result.exit_code:
            sys.stderr.write(f"{words} {last}: {result.output} {result.exception!r}")
        os.write(ours, str(seen).encode())
        os._exit(result.exit_code)
    os.close(ours)
    with os.fdopen(theirs, "rb") as said:
        found = said.read()
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        return None
    assert status == 0, status
    return int(found)

def state(run):
    "Every file and folder, and the bytes of the model."
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
    model = (run / "model" / "model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "loss" in row]
    return names, hashlib.sha256(model).hexdigest(), steps

def started(run):
    again = ["resume", str(run)] if (run / "config.yaml").exists() else pretrain(run)
    return attempt(again)

def pretrain(run):
    return ["pretrain", "bytes", "--data", given["data"], "--depth", "1", "--out", str(run),
            *given["words"]]

whole = folder / "whole" / "run"
calls = attempt(pretrain(whole))
chosen = given["chosen"] or range(1, calls + 1)
wrong, killed = [], 0
for number in chosen:
    run = folder / str(number) / "run"
    if attempt(pretrain(run), min(number, calls)) is None:
        killed += 1
        second = given["second"] and attempt(
            ["resume", str(run)] if (run / "config.yaml").exists() else pretrain(run),
            number * 7 % 40 + 1,
        ) is None
        try:
            started(run)
            if state(run) != state(whole):
                a, b = state(run), state(whole)
                wrong.append([number, sorted({*a[0]} ^ {*b[0]}), a[1:] == b[1:]])
        except AssertionError as error:
            wrong.append([number, "unrecoverable", str(error)])
    shutil.rmtree(folder / str(number), ignore_errors=True)
print(json.dumps({"calls": calls, "killed": killed, "wrong": wrong}))
"""


def sweep(data: Path, tmp_path: Path, chosen: list[int], *, second: bool) -> dict[str, Any]:  # noqa: F811
    settings = {**SET, "train.steps": 6, "train.keep_last": 1}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    given = {"data": str(data), "words": words, "chosen": chosen, "second": second}
    folder = tmp_path / "runs"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert not found["wrong"], done.stderr[-3000:]
    return found


def test_killed_before_some_calls(data: Path, tmp_path: Path) -> None:  # noqa: F811
    found = sweep(data, tmp_path, [40, 150, 200, 255], second=False)
    assert found["killed"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_killed_before_every_call(data: Path, tmp_path: Path, second: bool) -> None:  # noqa: F811
    found = sweep(data, tmp_path, [], second=second)
    assert found["killed"] == found["calls"] > 100
