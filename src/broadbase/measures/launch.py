"""Run by `sandbox.py`, in a process of its own: takes away what a program must not have; runs it.

python launch.py FOLDER SECONDS MEMORY FILE USER; on standard input a token, then the program. The
token comes back on standard output if and only if the program ran to its end.
"""

import os
import resource
import sys
from typing import Any

REFUSED = (
    "os.", "shutil.", "subprocess.", "socket.", "ctypes.", "pty.", "mmap.", "sqlite3.", "fcntl.",
    "syslog.", "signal.", "resource.", "_posixsubprocess", "sys.addaudithook", "gc.", "cpython.",
    "sys.settrace", "sys.setprofile",
)  # fmt: skip
READING = ("os.listdir", "os.scandir", "os.walk", "os.fspath")
MODULES = {"ctypes", "_ctypes", "_posixsubprocess", "socket", "_socket", "multiprocessing", "gc"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    folder, (seconds, memory, size, user) = sys.argv[1], map(int, sys.argv[2:])
    told = sys.stdin.read()
    answer = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if os.geteuid() == 0:
        become(user)
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    token, _, program = told.partition("\n")
    code = compile(program, "program", "exec")
    sys.argv[1:] = []
    sys.addaudithook(refuse(os.path.realpath(folder)))
    exec(code, {"__name__": "__main__"})
    os.write(answer, token.encode())
    os._exit(0)


def become(user: int) -> None:
    """That user for good, if Python's own files can be read then."""
    os.setegid(user)
    os.seteuid(user)
    readable = os.access(os.__file__, os.R_OK, effective_ids=True)
    os.seteuid(0)
    os.setegid(0)
    if readable:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)


def refuse(folder: str) -> Any:
    """A hook that lets a program read, compute, and write into its folder."""

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            writes = flags & WRITING or (isinstance(mode, str) and set(mode) & set("wax+"))
            inside = isinstance(path, str) and os.path.realpath(path).startswith(f"{folder}/")
            refused = bool(writes) and not inside
        elif event == "import":
            refused = given[0] in MODULES
        else:
            refused = event.startswith(REFUSED) and event not in READING
        if refused:
            raise PermissionError(f"{event} is not for programs that nobody has read")

    return hook


if __name__ == "__main__":
    main()
