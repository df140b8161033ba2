"""One of the two processes that judge a program; `sandbox.py` starts it behind the wall.

    python -c SOURCE_OF_THIS HALF CHANNEL SECONDS MEMORY FILE

On standard input: a filter of system calls in hexadecimal, the name of a function, a source.

program: runs the source, then calls the function for each call that the other half sends.
check:   runs the source and its `check(candidate)`; the exit code is 0 if and only if that
         returns. The candidate sends its calls to the other half. Only plain data is read from
         there, so that the verdict depends on the values of the results and on nothing else.
"""

import builtins
import ctypes
import os
import pickle
import resource
import sys
from typing import Any, BinaryIO, NoReturn

NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # of prctl (linux/prctl.h)
PLAIN = {
    "builtins": "bytearray complex dict float frozenset int list range set str tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "decimal": "Decimal",
    "fractions": "Fraction",
}


class Plain(pickle.Unpickler):
    """An unpickler of numbers, texts and collections; UnpicklingError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of plain data."""
        if name not in PLAIN.get(module, "").split():
            raise pickle.UnpicklingError(f"{module}.{name} is no plain data")
        return super().find_class(module, name)


def main() -> NoReturn:
    """Set the limits, then run one half; the exit code is the verdict."""
    half = sys.argv[1]
    channel, seconds, memory, size = map(int, sys.argv[2:])
    rules, name, source = sys.stdin.buffer.read().decode().split("\n", 2)
    code = compile(source, half, "exec")
    files = os.fdopen(channel, "rb", closefd=False), os.fdopen(channel, "wb", closefd=False)
    os.dup2(2, 1)  # stderr, which is discarded
    os.chdir(os.environ["HOME"])
    limit(seconds, memory, size)
    if rules:
        refuse(bytes.fromhex(rules))
    sys.argv[1:] = []
    try:
        {"program": program, "check": check}[half](code, name, *files)
    except SystemExit:
        os._exit(1)
    os._exit(0)


def limit(seconds: int, memory: int, size: int) -> None:
    """Limit the resources of this process, for good."""
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def refuse(rules: bytes) -> None:
    """Load a filter of system calls, for good."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_char_p)]

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    loaded = Program(len(rules) // 8, rules)
    if prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(SECCOMP, FILTER, ctypes.byref(loaded)):
        raise OSError(ctypes.get_errno(), "this kernel takes no filter of system calls")


def program(code: Any, name: str, calls: BinaryIO, results: BinaryIO) -> None:
    """Run the program, then answer calls of its function for ever."""
    space = {"__name__": "__main__"}
    exec(code, space)
    function: Any = space[name] if name else lambda same: same
    while True:
        args, kwargs = pickle.load(calls)
        try:
            result = pickle.dumps((True, function(*args, **kwargs)))
        except BaseException as error:
            result = pickle.dumps((False, type(error).__name__))
        results.write(result)
        results.flush()


def check(code: Any, name: str, results: BinaryIO, calls: BinaryIO) -> None:
    """Run the check, with a candidate that sends its calls to the program."""

    def candidate(*args: Any, **kwargs: Any) -> Any:
        calls.write(pickle.dumps((args, kwargs)))
        try:
            calls.flush()
            good, result = Plain(results).load()
        except BaseException:
            os._exit(1)  # no answer, which no test may take for an exception of the candidate
        if good is True:
            return result
        kind = getattr(builtins, str(result), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            raise kind
        raise RuntimeError(f"the program raised {result}")

    space: dict[str, Any] = {"__name__": "__main__"}
    exec(code, space)
    if name:
        space[name] = candidate
    space["check"](candidate)


if __name__ == "__main__":
    main()
