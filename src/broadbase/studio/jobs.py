"""Commands that a page starts: each is a process of its own, which survives page and server.

ROOT/.studio/jobs/NAME/job.json    the command, and what it is about
ROOT/.studio/jobs/NAME/out.txt     its results; lines of JSON
ROOT/.studio/jobs/NAME/log.txt     what it says on the way
ROOT/.studio/jobs/NAME/lock        locked by the process as long as it runs
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import read_json, write_json

JOB, OUT, LOG, LOCK = "job.json", "out.txt", "log.txt", "lock"
NAME = re.compile(r"[\w][\w.-]{0,79}")
PROGRESS = re.compile(r".*: [\d,]+ of [\d,]+, [\d,]+ s left|[\d,]+ records, [\d,]+ a second")
FAILED = "error: "
MOST = 200_000  # characters of a log that are read


@dataclass(frozen=True)
class Job:
    """A command that was started."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def command(self) -> str:
        """The command as a person types it."""
        return shlex.join(["broadbase", *(w for w in self.about["command"] if w != "--json")])

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        try:
            with (self.folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def stamp(self) -> tuple[int, ...]:
        """What changes when the process writes something."""
        sizes = [(self.folder / name) for name in (OUT, LOG)]
        return tuple(path.stat().st_size if path.exists() else 0 for path in sizes)

    def rows(self) -> list[Any]:
        """Return the results that are complete lines of JSON."""
        text, rows = self._text(OUT), list[Any]()
        for line in text[: text.rfind("\n") + 1].splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def said(self) -> list[str]:
        """Return what the process says, without progress, errors and traces."""
        lines = self._log()
        ends = (i for i, line in enumerate(lines) if line.startswith((FAILED, "Traceback")))
        return [line for line in lines[: next(ends, None)] if not PROGRESS.fullmatch(line)]

    def progress(self) -> str:
        """Return how far it is; empty where it does not say."""
        lines = self._log()
        return lines[-1] if lines and PROGRESS.fullmatch(lines[-1]) else ""

    def error(self) -> str:
        """Return why the process ended, in its words; empty where it says nothing."""
        lines = self._log()
        for i, line in enumerate(lines):
            if line.startswith(FAILED):
                return "\n".join(lines[i:]).removeprefix(FAILED)
            if line.startswith("Traceback"):
                return f"a defect of the program, please report it: {lines[-1]}"
        return ""

    def stop(self) -> None:
        """Ask the process to end, if it runs."""
        with suppress(OSError):
            if self.running:
                os.kill(int(self.about["pid"]), signal.SIGTERM)

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(errors="replace")[-MOST:]
        except OSError:
            return ""

    def _log(self) -> list[str]:
        return [line for line in self._text(LOG).splitlines() if line.strip()]


class Jobs:
    """The jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made when a job starts."""
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str], **about: Any) -> Job:
        """Start a command of broadbase; ConfigError where a job of that name runs."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{name} runs already; wait for it, or stop it") from None
            with (folder / OUT).open("wb") as out, (folder / LOG).open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "broadbase", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),  # the lock lives as long as the process
                )
            about |= {"command": list(command), "pid": process.pid, "time": time.time()}
            write_json(folder / JOB, about)
        self._processes.append(process)
        return Job(folder, about)

    def get(self, name: str) -> Job:
        """Return a job by its name; HTTPException 404 if there is none."""
        self._processes = [each for each in self._processes if each.poll() is None]
        if NAME.fullmatch(name):
            with suppress(DataError):
                return Job(self.folder / name, read_json(self.folder / name / JOB))
        raise HTTPException(404, "there is no such job")

    def all(self) -> list[Job]:
        """Return the jobs, the newest first."""
        jobs = list[Job]()
        for path in self.folder.glob(f"*/{JOB}"):
            with suppress(HTTPException):
                jobs.append(self.get(path.parent.name))
        return sorted(jobs, key=lambda job: float(job.about.get("time", 0)), reverse=True)
