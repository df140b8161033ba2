"""A sandbox: programs that a model wrote, run behind a wall.

A program gets a process in separate Linux namespaces: no network, no other process, no shared
memory, and a tree of files (`wall.sh`) that holds Python, read-only, and an empty folder in memory.
It runs as a user without rights. A filter of system calls (seccomp) allows what computing and files
need. Memory, time, and the number and sizes of its files are limited. Nothing of it remains.

A second process, behind another wall, runs the tests and decides. It sends the arguments of each
call to the program and gets the result back as plain data, so nothing that the program does to its
interpreter changes the verdict.

The sandbox needs Linux with util-linux and libseccomp, and the right to create namespaces. Where
one of these is missing no program is run, unless BROADBASE_NO_SANDBOX=1 declares the machine a
sandbox.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import ceil
from pathlib import Path

from broadbase.core.errors import BroadbaseError, ResourceError
from broadbase.core.extras import require_extra

SECONDS, PATIENCE = 3.0, 4  # of CPU; times as many by the clock, as other work may be running
MEMORY = 1 << 30  # bytes of address space
FILE = 1 << 20  # bytes of one file
FOLDER, FILES = 16 << 20, 1000  # bytes and number of all files
NOBODY = 65_534
OPT_OUT = "BROADBASE_NO_SANDBOX"
LAUNCHER, WALL = (Path(__file__).with_name(name) for name in ("sandbox_child.py", "wall.sh"))
PATH = f"{os.defpath}:/usr/sbin:/sbin"
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child")
CALLS = """
brk mmap munmap mremap mprotect madvise futex membarrier getrandom rseq restart_syscall read
pread64 readv write pwrite64 writev lseek sendfile copy_file_range fsync fdatasync open openat
close dup dup2 dup3 pipe pipe2 fcntl flock truncate ftruncate fallocate umask stat fstat lstat
newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64 getcwd chdir fchdir
mkdir mkdirat rmdir unlink unlinkat link linkat symlink symlinkat rename renameat renameat2
utimensat chmod fchmod fchmodat poll ppoll select pselect6 nanosleep clock_nanosleep clock_gettime
clock_getres gettimeofday time times getrusage getpid getppid gettid getpgrp getuid geteuid getgid
getegid getgroups uname sysinfo getrlimit setrlimit prlimit64 sched_getaffinity sched_yield alarm
setitimer getitimer pause rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack set_robust_list
exit exit_group
"""
ENDED = "def check(candidate):\n    assert candidate('end') == 'end'\n"


def passes(program: str, name: str = "", check: str = ENDED, seconds: float = SECONDS) -> bool:
    """Return whether a Python program ends within `seconds` and its function `name` passes a check.

    `check` is source code that defines `check(candidate)`, which raises where the candidate is
    wrong. Arguments and results of the candidate must be plain data (numbers, texts, collections);
    changes to its arguments are not seen. Without a check a program passes if it runs to its end
    without an error; exiting early, also by `sys.exit` or `os._exit`, is no end.

    ResourceError where no wall can be built.
    """
    wall = require_wall()
    checker, candidate = socket.socketpair()
    with checker, candidate, _started(wall, "program", program, name, candidate, seconds):
        candidate.close()
        with _started(wall, "check", check, name, checker, seconds) as process:
            checker.close()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=PATIENCE * seconds)
            return process.returncode == 0


@cache
def require_wall() -> tuple[str, ...]:
    """Return the command that runs another behind the wall; ResourceError says why there is none.

    It is empty where the user has declared the machine a sandbox.
    """
    if os.environ.get(OPT_OUT) == "1":
        return ()
    root = os.geteuid() == 0
    user = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups" if root else ""
    wall = (
        *("setpriv", "--pdeathsig", "KILL", "unshare", *(() if root else ("--map-root-user",))),
        *(*NAMESPACES, "sh", str(WALL), "ROOT", str(FOLDER), str(FILES), sys.base_prefix, user),
    )
    try:
        checker, candidate = socket.socketpair()
        trial = (wall, "check", "def check(_): 0", "", checker, SECONDS, subprocess.STDOUT)
        with checker, candidate, _started(*trial) as process:
            output = process.communicate(timeout=10 * SECONDS)[0].decode(errors="replace")
        reason = output.strip().rpartition("\n")[2] if process.returncode else ""
    except (OSError, subprocess.TimeoutExpired, BroadbaseError) as error:
        reason = str(error)
    if reason:
        raise ResourceError(
            f"programs that a model wrote run only in a sandbox, and there is none here: {reason}."
            " It needs Linux with util-linux and libseccomp (Debian: apt install util-linux"
            " libseccomp2; pip install 'broadbase[sandbox]') and the right to make namespaces; many"
            f" containers lack it. On a machine that holds nothing of value, set {OPT_OUT}=1: the"
            " programs can then do all that you can do there"
        )
    return wall


@contextmanager
def _started(
    wall: tuple[str, ...],
    half: str,
    source: str,
    name: str,
    channel: socket.socket,
    seconds: float,
    stderr: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start one half of `sandbox_child.py` on a source; its processes end with the block."""
    prefix = "broadbase-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as stdin,
    ):
        stdin.write(f"{_filter().hex() if wall else ''}\n{name}\n{source}".encode())
        stdin.seek(0)
        command = [folder if part == "ROOT" else part for part in wall]
        command += [os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", LAUNCHER.read_text()]
        home = "/tmp" if wall else folder
        process = subprocess.Popen(
            [*command, half, *map(str, (channel.fileno(), ceil(seconds), MEMORY, FILE))],
            env={"PATH": PATH, "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=[channel.fileno()],
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@cache
def _filter() -> bytes:
    """Return the seccomp program that refuses all system calls but CALLS."""
    try:
        seccomp = require_extra("pyseccomp", "sandbox", "running programs that a model wrote")
    except RuntimeError as error:
        raise ResourceError(str(error)) from None
    refusing = seccomp.SyscallFilter(seccomp.ERRNO(errno.EACCES))
    for name in CALLS.split():
        with suppress(OSError):  # not every system has every call
            refusing.add_rule(seccomp.ALLOW, name)
    with tempfile.TemporaryFile() as file:
        refusing.export_bpf(file)
        file.seek(0)
        return file.read()
