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
from broadbase.core.errors import BroadbaseError, out_of_memory
from broadbase.core.preload import relaunch

__all__ = ["app", "main"]

UsageError: type[Exception] = typer.BadParameter.mro()[1]  # of a command's words
CLOSED, INTERRUPTED, TERMINATED = 141, 130, 143  # as a shell says of SIGPIPE, SIGINT, SIGTERM

NO_ROOM = "out of memory; use a smaller --batch-size or --depth, or more train.micro_batches"


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
    except BroadbaseError as error:
        return failed(error, error.exit_code)
    except UsageError as error:
        return failed(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as leaving:
        code = CLOSED if isinstance(leaving.__context__, BrokenPipeError) else leaving.code
    except BrokenPipeError:
        return CLOSED
    except OSError as error:
        return failed(f"{error.filename or 'the system'}: {error.strerror or error}", 5)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return failed(f"{NO_ROOM} ({str(error).splitlines()[0][:200]})", 5)
    if code in (INTERRUPTED, TERMINATED):
        name = "SIGINT" if code == INTERRUPTED else "SIGTERM"
        return failed(f"stopped by {name} before it was done; run the same command again", code)
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
