"""Stopping and resuming a run, as a person at a terminal does: by a signal and by a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from broadbase.core.errors import ConfigError
from broadbase.run.process import command_of, process_of

LOG = "studio.log"  # in the run's folder: what a resumed run says
PATIENCE = 0.2, 300  # seconds between looks for a process that was started, and how many


def stop(folder: Path) -> None:
    """Send SIGTERM to the process that trains a run; it saves itself. ConfigError if none does."""
    process = process_of(folder)
    if process is None:
        raise ConfigError(f"{folder.name} does not train, so there is nothing to stop")
    if "broadbase" not in command_of(process.pid):
        raise ConfigError(
            f"process {process.pid} on {process.host} trains {folder.name}, and is not a broadbase"
            " of this machine; stop it where it was started"
        )
    try:
        os.kill(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it has just ended
    except PermissionError:
        raise ConfigError(
            f"process {process.pid} trains {folder.name}, and belongs to another user"
        ) from None


def resume(folder: Path) -> None:
    """Start a process that continues a run, and outlives this one; ConfigError where one trains.

    Returns when it trains, or has ended.
    """
    if process_of(folder) is not None:
        raise ConfigError(f"{folder.name} trains already")
    command = [sys.executable, "-m", "broadbase", "resume", str(folder.absolute())]
    with (folder / LOG).open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=started.wait, daemon=True).start()  # so that it leaves no zombie
    pause, looks = PATIENCE
    for _ in range(looks):
        if process_of(folder) is not None or started.poll() is not None:
            break
        time.sleep(pause)
    if started.poll():
        raise ConfigError(f"{folder.name} was not resumed: {_last_line(folder / LOG)}")


def _last_line(path: Path) -> str:
    """Return the last line of a log, which says why a command ended."""
    lines = path.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
