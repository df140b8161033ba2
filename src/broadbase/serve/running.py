"""Running an application: it listens, says where, and ends its answers before it stops."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from broadbase.core.errors import ResourceError
from broadbase.serve.settings import ServeConfig
from broadbase.serve.traffic import Gate

CLOSING = 1  # second that connections have to close after the last answer


def listen(settings: ServeConfig) -> socket.socket:
    """Return a socket that listens; ResourceError where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((settings.host, settings.port))
        opened.listen()
    except OSError as error:
        opened.close()
        raise ResourceError(
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror or error}; give"
            " another --port (0: a free one)"
        ) from None
    return opened


def run(app: FastAPI, settings: ServeConfig, say: Callable[[str], None]) -> None:
    """Serve `app` until SIGTERM or SIGINT.

    New requests are then refused, and answers in progress have `settings.grace` seconds; a second
    signal ends them at once.
    """
    opened = listen(settings)
    port = opened.getsockname()[1]
    say(f"listening at http://{settings.host}:{port}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=CLOSING,
        server_header=False,
        access_log=False,
        h11_max_incomplete_event_size=64 * 1024,
    )
    Server(config, app.state.gate, settings.grace).run(sockets=[opened])


class Server(uvicorn.Server):
    """A server that ends its answers after a signal, and then ends with exit code 0."""

    def __init__(self, config: uvicorn.Config, gate: Gate, grace: float) -> None:
        """Take the gate that refuses requests, and the seconds that answers have to end."""
        super().__init__(config)
        self.gate, self.grace, self.deadline = gate, grace, float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the gate at the first signal; end at the second."""
        if self.gate.draining:
            self.should_exit = self.force_exit = True
        self.gate.draining = True
        self.deadline = min(self.deadline, time.monotonic() + self.grace)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end."""
        over = time.monotonic() >= self.deadline
        if self.gate.draining and (over or not self.gate.in_flight):
            self.should_exit = True
        return await super().on_tick(counter)
