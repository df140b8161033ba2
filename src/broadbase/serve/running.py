"""Running an application: it listens, says where, and ends its answers before it stops."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from broadbase.core.errors import ResourceError
from broadbase.serve.settings import ServeConfig


def listen(settings: ServeConfig) -> socket.socket:
    """Return a socket that listens; ResourceError where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((settings.host, settings.port))
    except OSError as error:
        opened.close()
        raise ResourceError(
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror or error}; give"
            " another --port (0: a free one)"
        ) from None
    return opened


def run(app: FastAPI, settings: ServeConfig, say: Callable[[str], None]) -> None:
    """Serve `app` until SIGTERM or SIGINT; answers in progress have `settings.grace` seconds."""
    opened = listen(settings)
    port = opened.getsockname()[1]
    say(f"listening at http://{settings.host}:{port}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=round(settings.grace),
        server_header=False,
        h11_max_incomplete_event_size=64 * 1024,
    )
    uvicorn.Server(config).run(sockets=[opened])
