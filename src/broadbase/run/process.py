"""Which process trains a run, and why the last one ended.

runs/NAME/process.json     the process that trains, while it does
runs/NAME/last_error.json  why the last one ended before its last step; removed when it goes on
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from broadbase.core.errors import ConfigError, explained
from broadbase.core.files import write_bytes, write_json
from broadbase.run.prepare import first_rank

PROCESS, LAST_ERROR, LOCK = "process.json", "last_error.json", "lock"
STOPPED = {75, 130, 143}  # exit codes of a run that was stopped
QUIET = 600  # seconds after which a run of another machine that writes nothing has ended

T = TypeVar("T", bound=BaseModel)
State = Literal["training", "finished", "stopped", "crashed"]


class Process(BaseModel):
    """A process that trains."""

    pid: int
    host: str


class LastError(BaseModel):
    """Why a run ended before its last step."""

    exit_code: int
    message: str
    remedy: str
    time: float  # seconds since 1970


@dataclass(frozen=True)
class Status:
    """What a run does, and what it ended with."""

    state: State
    process: Process | None = None
    error: LastError | None = None


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Record in `folder` that this process trains, and an error that ends this context.

    The caller holds the lock of the run. Nothing is recorded of ranks other than the first. Where
    the settings are refused, the run is as it was, and so is what it ended with before.
    """
    if not first_rank():
        yield
        return
    path = folder / LAST_ERROR
    before = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    write_json(folder / PROCESS, {"pid": os.getpid(), "host": platform.node()})
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # the error on its way says more
            if not isinstance(error, ConfigError):
                write_json(path, _record(error, folder), indent=1)
            elif before is not None:
                write_bytes(path, before)
        raise
    finally:
        with suppress(OSError):
            (folder / PROCESS).unlink(missing_ok=True)


def status(folder: Path, *, done: bool) -> Status:
    """Return what a run does; `done` says whether it has taken all its steps."""
    process = process_of(folder)
    if process is not None:
        return Status("training", process)
    if done and (folder / "model").exists():
        return Status("finished")
    error = _read(folder / LAST_ERROR, LastError)
    if error is None:
        words = "the process ended without a message: it was killed, or the machine stopped"
        remedy = f"`broadbase resume {folder.name}` continues from the newest checkpoint"
        return Status(
            "crashed", error=LastError(exit_code=137, message=words, remedy=remedy, time=0)
        )
    return Status("stopped" if error.exit_code in STOPPED else "crashed", error=error)


def process_of(folder: Path) -> Process | None:
    """Return the process that holds the lock of a run; None if there is none.

    The lock is looked at and not taken, as a process that starts to train may want it just then.
    """
    process = _read(folder / PROCESS, Process)
    if process is None:
        return None
    if process.host != platform.node():
        times = [
            p.stat().st_mtime for n in (PROCESS, "metrics.jsonl") if (p := folder / n).exists()
        ]
        return process if time.time() - max(times, default=0) < QUIET else None
    return process if _holds(process.pid, folder / LOCK) else None


def command_of(pid: int) -> str:
    """Return the command line of a process, or nothing if there is none."""
    path = Path(f"/proc/{pid}/cmdline")
    with suppress(OSError):
        if path.exists():
            return path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        words = ("ps", "-o", "command=", "-p", str(pid))
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def _record(error: BaseException, folder: Path) -> dict[str, object]:
    """Return what is kept of an error; what to do stands after the last semicolon of messages."""
    message, code = explained(error) or (f"{type(error).__name__}: {error}"[:2000], 1)
    said, semicolon, remedy = message.rpartition("; ")
    if code == 1:
        said, remedy = message, "this is a defect of the program: please report it"
    elif not semicolon:
        said, remedy = message, f"`broadbase resume {folder}` continues it"
    return {"exit_code": code, "message": said, "remedy": remedy, "time": time.time()}


def _holds(pid: int, lock: Path) -> bool:
    """Return whether a process has the lock open; where the system does not say, whether it is."""
    descriptors = Path(f"/proc/{pid}/fd")
    try:
        wanted = lock.stat()
        if not Path("/proc/self/fd").exists():
            os.kill(pid, 0)
            return True
        opened = [*descriptors.iterdir()]
    except PermissionError:
        return True  # of another user
    except OSError:
        return False
    for each in opened:
        with suppress(OSError):
            if os.path.samestat(each.stat(), wanted):
                return True
    return False


def _read(path: Path, kind: type[T]) -> T | None:
    with suppress(OSError, ValidationError, ValueError):
        return kind.model_validate_json(path.read_bytes()[:65536])
    return None
