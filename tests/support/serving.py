"""A server of tiny bases, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import uvicorn

from broadbase.inference.base import Base
from broadbase.serve.api import api
from broadbase.serve.app import create
from broadbase.serve.served import Served
from broadbase.serve.service import Service
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker


def service_of(
    bases: Mapping[str, Base], adapted: Mapping[str, Any] | None = None, **settings: Any
) -> Service:
    """The parts of a server of these bases; close its worker."""
    config = ServeConfig(**settings)
    return Service(Served(bases, adapted or {}), Worker(config.queue, config.rows), config)


@contextlib.contextmanager
def serving(service: Service, **given: Any) -> Iterator[str]:
    """A server that listens at the address that this gives."""
    routers = api(service, **given)
    app = create(service.settings, routers, meters=service.meters, say=service.say)
    config = uvicorn.Config(app, port=0, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.gate.draining = server.should_exit = True
        thread.join()
        service.worker.close()
