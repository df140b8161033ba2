"""Work that is killed before any one of its changes of the disk, in a process of its own.

A change is a call of Python that makes, renames, removes or opens a file to write below a folder.
"""

from __future__ import annotations

import base64
import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from support.programs import run

CALL = """
import base64, pickle, sys
sys.path[:], call = pickle.loads(base64.b64decode(sys.argv[1]))
function, given = pickle.loads(call)
print(function(*given))
"""
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
Work = Callable[..., Any]  # can be pickled


def attempt(folder: Path, work: Work, *given: Any, last: int = 0) -> int | None:
    """How often `work(*given)` changes something below `folder`; None where it was killed.

    It is killed before its change number `last`, if there are so many.
    """
    call = pickle.dumps((_counted, (str(folder), last, work, given)))
    done = run(CALL, base64.b64encode(pickle.dumps((sys.path, call))).decode())
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, f"{work} {given} ended with {done.returncode}: {done.stderr}"
    return int(done.stdout.splitlines()[-1])


def command(*words: object) -> None:
    """A command of the command line; AssertionError where it ends with another code than 0."""
    from broadbase.commands.app import app

    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception!r}"


def _counted(folder: str, last: int, work: Work, given: tuple[Any, ...]) -> int:
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if _changes(event, args, folder):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work(*given)
    return seen


def _changes(event: str, args: tuple[Any, ...], folder: str) -> bool:
    if event == "open":
        _, mode, flags = args
        if not (any(c in mode for c in "wax+") if mode else (flags or 0) & WRITES):
            return False
    elif event not in CHANGES:
        return False
    return isinstance(args[0], str | os.PathLike) and str(args[0]).startswith(folder)
