"""Programs that nobody has read, run where they can do little.

A program gets a process, a folder and a few seconds of its own. The system limits its processor
time, memory, files and number of processes (none but itself); an audit hook (PEP 578) refuses what
reaches outside: writing files elsewhere, other programs, signals, sockets, C functions. Where the
system lets us (`unshare` of util-linux), it has no network and cannot see other processes; where we
are root, it is nobody, if nobody may read Python's files. This keeps what a language model writes
from doing harm by accident: it is no wall against somebody who knows the interpreter well.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache
from math import ceil
from pathlib import Path
from shutil import which

SECONDS, PATIENCE = 3.0, 4  # of the processor; times as many of the clock, where others work too
MEMORY = 1 << 30  # bytes of address space
FILE = 1 << 20  # bytes of a file that it writes
NOBODY = 65_534
LAUNCHER = Path(__file__).with_name("launch.py")


def passes(program: str, seconds: float = SECONDS) -> bool:
    """Whether a Python program runs to its end without an error, within so many seconds.

    Leaving early, by `sys.exit` or `os._exit` too, is no end.
    """
    with tempfile.TemporaryDirectory(prefix="broadbase-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)  # whoever it runs as
        token = secrets.token_hex()
        limits = [str(ceil(seconds)), str(MEMORY), str(FILE), str(NOBODY)]
        process = subprocess.Popen(
            [*_apart(), sys.executable, "-I", "-S", "-B", str(LAUNCHER), folder, *limits],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(
                f"{token}\n{program}".encode(), timeout=PATIENCE * seconds
            )
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(process)
    return said == token.encode()


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group, whoever of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@lru_cache
def _apart() -> tuple[str, ...]:
    """What runs a command without a network and among its own processes; nothing, if forbidden."""
    own = () if os.geteuid() == 0 else ("--user", "--map-current-user")
    command = ("unshare", *own, "--net", "--pid", "--fork", "--kill-child")
    if which(command[0]) is None:
        return ()
    tried = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, check=False)
    return () if tried.returncode else command
