"""The command line: results on stdout, everything said on the way on stderr."""

from __future__ import annotations

import sys

from broadbase.commands.options import app, fail
from broadbase.core.errors import BroadbaseError
from broadbase.launch import relaunch

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; every error a user can act on is one message and an exit code."""
    relaunch(*sys.argv[1:2])
    try:
        app()
    except BroadbaseError as error:
        fail(error, error.exit_code)
    except MemoryError as error:
        fail(f"out of memory: {error}; use more train.micro_batches or a smaller depth", 5)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 5)


if __name__ == "__main__":
    main()
