"""Every request is counted and logged in one line; none is taken while the server ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadbase.serve.guard import error_body
from broadbase.serve.meters import Meters

SLACK = 10.0  # seconds beyond the time of an answer after which a stalled client is cut off
OPEN = ("/metrics",)  # answered until the end


@dataclass
class Gate:
    """Whether requests are taken, and how many that change or compute something are answered."""

    draining: bool = False
    in_flight: int = 0


@dataclass(frozen=True)
class Traffic:
    """Counts, log and end of a server, as ASGI middleware."""

    app: ASGIApp
    gate: Gate
    seconds: float  # that an answer may take
    meters: Meters = field(default_factory=Meters)
    say: Callable[[str], None] | None = None  # writes a line of the log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with 503 while the server ends; count and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, asks = time.monotonic(), 500, scope["method"] == "POST"

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.gate.in_flight += asks
        self.meters.in_flight += 1
        try:
            if self.gate.draining and scope["path"] not in OPEN:
                await _ending(scope, receive, answered)
            else:
                limit = self.seconds + SLACK if asks else None
                async with asyncio.timeout(limit):
                    await self.app(scope, receive, answered)
        except TimeoutError:
            status = 504  # the connection is closed without the end of the answer
        finally:
            self.gate.in_flight -= asks
            self.meters.in_flight -= 1
            self.meters.requests[_route(scope), status] += 1
            self._log(scope, status, time.monotonic() - began)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        if self.say is not None:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")[:200]
            self.say(f"{now} {scope['method']} {path} {status} {seconds:.3f} s")


async def _ending(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "1", "Connection": "close"}
    body = error_body("the server is ending; ask another, or later", 503)
    await JSONResponse(body, 503, headers)(scope, receive, send)


def _route(scope: Scope) -> str:
    """Return the route that answered, with the names of its parameters; "other" if none did."""
    return str(getattr(scope.get("route"), "path", "other"))
