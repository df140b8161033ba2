"""Errors a user can act on: each says what, where and how to mend it, and has an exit code."""

from __future__ import annotations

from pathlib import Path


class BroadbaseError(Exception):
    """Base of all errors meant for users; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(BroadbaseError, ValueError):
    """A setting that is unknown, out of range or without effect."""

    exit_code = 2


class DataError(BroadbaseError, ValueError):
    """Data that cannot be used: names the file, the position in it and the remedy."""

    exit_code = 3


class RejectedError(DataError):
    """Too many records cannot be used: `reasons` says why of the first ones, `path` lists all."""

    def __init__(self, reasons: str, path: Path) -> None:
        """Take the reasons, and the file that holds all of them."""
        super().__init__(f"{reasons}\nall of them are in {path}")
        self.reasons, self.path = reasons, path


class DivergedError(BroadbaseError):
    """A loss or gradient is not finite; raised before the step that would spoil the weights."""

    exit_code = 4


class ResourceError(BroadbaseError, OSError):
    """Disk, memory or permission ran out; what was written before is intact."""

    exit_code = 5


class RankError(BroadbaseError, RuntimeError):
    """A rank did not come, cannot be reached or was lost; the run can be resumed."""

    exit_code = 6


class EndpointError(BroadbaseError):
    """A server did not answer, refused, or answered what cannot be true."""

    exit_code = 7

    def __init__(self, message: str, status: int | None = None) -> None:
        """Take the HTTP status, where there is one."""
        super().__init__(message)
        self.status = status


class PreemptedError(BroadbaseError):
    """The run received a signal to stop, saved itself and can be resumed."""

    exit_code = 75


# How libraries say it that raise no MemoryError: PyTorch on CPUs and GPUs, C++, cuBLAS, threads
_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",
    "can't start new thread",
    "failed to map segment",  # of a library that is loaded
    "cannot create shared object",
)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on the CPU or an accelerator."""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    if isinstance(error, RuntimeError | OSError | ImportError) and any(
        each in words for each in _MEMORY
    ):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


NO_ROOM = "out of memory; use a smaller --batch-size or --depth, or more train.micro_batches"
INTERRUPTED, TERMINATED = 130, 143  # as a shell says of SIGINT and SIGTERM


def explained(error: BaseException) -> tuple[str, int] | None:
    """Return what to say of an error and its exit code; None of one that nobody expects."""
    if isinstance(error, BroadbaseError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return stopped(INTERRUPTED), INTERRUPTED
    if isinstance(error, SystemExit) and error.code == TERMINATED:
        return stopped(TERMINATED), TERMINATED
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}", 5
    if out_of_memory(error):
        return f"{NO_ROOM} ({str(error).splitlines()[0][:200]})", 5
    return None


def stopped(code: int) -> str:
    """Say which signal stopped a command, by its exit code."""
    name = "SIGINT" if code == INTERRUPTED else "SIGTERM"
    return f"stopped by {name} before it was done; run the same command again"
