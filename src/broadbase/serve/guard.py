"""Who may ask: the checks of every request before any other code sees it.

A page of another site that the user visits can send requests to a server on the same machine. The
`Host` header refuses those that come through a foreign name (DNS rebinding), the `Origin` header
those of a foreign page, and a token those that change something.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TOKEN = "X-Broadbase-Token"


@dataclass(frozen=True)
class Guard:
    """The rules of a server, as ASGI middleware."""

    app: ASGIApp
    hosts: frozenset[str]  # names without port, in lower case
    api_key: str | None = None  # of requests to /v1 and /b
    token: str | None = None  # of requests that change something in the studio
    max_body: Mapping[str, int] = field(default_factory=dict)  # bytes by the beginning of a path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that breaks a rule, and pass on any other."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours opens a websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers, sent = Headers(scope=scope), False

        async def answered(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self.check(scope["method"], scope["path"], headers)
            limited = _limited(receive, self._limit(scope["path"]), headers)
            await self.app(scope, limited, answered)
        except HTTPException as refused:
            if not sent:
                status = refused.status_code
                response = JSONResponse(error_body(refused.detail, status), status)
                await response(scope, receive, answered)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Check host, origin, key and token of a request; HTTPException names the first bad one."""
        host = headers.get("host", "").lower()
        if _without_port(host) not in self.hosts:
            raise HTTPException(403, "this server has another name; it is not in its list of hosts")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise HTTPException(403, "the request comes from a page of another site")
        api = path.startswith(("/v1/", "/b/"))
        if api and self.api_key is not None:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not _equal(key, self.api_key):
                raise HTTPException(401, "the key is wrong; send `Authorization: Bearer KEY`")
        changes = not api and method not in SAFE_METHODS
        if changes and self.token is not None and not _equal(headers.get(TOKEN, ""), self.token):
            raise HTTPException(403, f"the header {TOKEN} is missing or wrong; reload the page")

    def _limit(self, path: str) -> int:
        fitting = [start for start in self.max_body if path.startswith(start)]
        return self.max_body[max(fitting, key=len)] if fitting else 1_000_000


def error_body(message: str, status: int, param: str | None = None) -> dict[str, object]:
    """Return an error as clients of OpenAI's API read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
    kinds |= {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    kind = kinds.get(status, "invalid_request_error")
    message = message.encode(errors="backslashreplace").decode()  # half a surrogate pair
    param = None if param is None else param.encode(errors="backslashreplace").decode()
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def _limited(receive: Receive, limit: int, headers: Headers) -> Receive:
    """Return `receive` that refuses a body of more than `limit` bytes."""
    size, refused = 0, HTTPException(413, f"the request is larger than {limit:,} bytes")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > limit:
        raise refused

    async def received() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise refused
        return message

    return received


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
