"""The command line: results on stdout, everything said on the way on stderr."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper

import typer

from broadbase.commands.app import app
from broadbase.commands.options import log
from broadbase.core.errors import INTERRUPTED, TERMINATED, explained, stopped
from broadbase.core.preload import relaunch

__all__ = ["app", "main"]

UsageError: type[Exception] = typer.BadParameter.mro()[1]  # of a command's words
CLOSED = 141  # as a shell says of SIGPIPE


def main() -> None:
    """Run the command line; every error a user can act on is one message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of what its encoding has not
    signal.signal(signal.SIGTERM, _terminate)
    code = _run()
    _discard_output()
    sys.exit(code)


def _run() -> int:
    """Run the command of this process and return its exit code."""
    try:
        relaunch(*sys.argv[1:])
        code = app(standalone_mode=False, prog_name="broadbase")
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        return failed(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as leaving:
        code = CLOSED if isinstance(leaving.__context__, BrokenPipeError) else leaving.code
    except BrokenPipeError:
        return CLOSED
    except Exception as error:
        if (words := explained(error)) is None:
            raise
        return failed(*words)
    if code in (INTERRUPTED, TERMINATED):
        return failed(stopped(code), code)
    return code if isinstance(code, int) else 0


def _terminate(*_: object) -> None:
    sys.exit(TERMINATED)


def failed(message: object, code: int) -> int:
    """Say what went wrong and how to mend it; the exit code that was given."""
    with suppress(OSError):
        log.print("error:", style="bold red", end=" ")
        log.say(str(message))
    return code


def _usage(error: BaseException) -> str:
    """Say what is wrong with the arguments of a command, and where its options are described."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    return f"{message} See `{context.command_path} --help`." if context else message


def _discard_output() -> None:
    """Drop what stdout still holds where it cannot be written: its reader or disk may be gone."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
