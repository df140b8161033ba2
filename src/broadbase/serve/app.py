"""The application: routes behind the guard, and every error as a client reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from broadbase.core.errors import BroadbaseError, ResourceError
from broadbase.serve.guard import Guard, error_body
from broadbase.serve.meters import Meters
from broadbase.serve.settings import ServeConfig
from broadbase.serve.traffic import Gate, Traffic
from broadbase.serve.worker import FullError

RETRY = 1  # seconds after which a client may ask again when the queue is full


def create(
    settings: ServeConfig,
    routers: Iterable[APIRouter],
    token: str | None = None,
    meters: Meters | None = None,
    say: Callable[[str], None] | None = None,
) -> FastAPI:
    """Return the application of some routers; `token` is what pages send to change something.

    `say` writes a line of the log for each request. `app.state.gate` says whether the server ends;
    streams without an end must watch it.
    """
    app = FastAPI(title="Broadbase", docs_url=None, redoc_url=None)  # their pages load from a CDN
    app.include_router(health())
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(BroadbaseError, _refused)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnicodeEncodeError, _no_text)
    app.add_exception_handler(Exception, _broken)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    limits = {"/": settings.max_upload_bytes, "/v1/": settings.max_body_bytes}
    limits |= {"/b/": settings.max_body_bytes, "/v1/audio/": settings.max_audio_bytes}
    app.add_middleware(Guard, hosts=settings.hosts, api_key=key, token=token, max_body=limits)
    gate = app.state.gate = Gate()
    app.add_middleware(
        Traffic, gate=gate, seconds=settings.seconds, meters=meters or Meters(), say=say
    )
    return app


def health() -> APIRouter:
    """Return the route that says that the server runs."""
    router = APIRouter()

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """Say that the server runs."""
        return {"status": "ok"}

    return router


def failed(status: int, message: str, param: str | None = None) -> JSONResponse:
    """Return an error as clients of OpenAI's API read it."""
    return JSONResponse(error_body(message, status, param), status)


async def _refused(_: Request, error: Exception) -> Response:
    return failed(503 if isinstance(error, ResourceError) else 400, str(error))


async def _full(_: Request, __: Exception) -> Response:
    response = failed(429, f"too many requests wait; ask again in {RETRY} s")
    response.headers["Retry-After"] = str(RETRY)
    return response


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failed(error.status_code, str(error.detail))


async def _invalid(_: Request, error: Exception) -> Response:
    """Name the first bad field and what is wrong with it."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part)[:60] for part in first["loc"][1:])
    message = first["msg"].removeprefix("Value error, ")
    return failed(400, f"{field}: {message}" if field else message, field or None)


async def _no_text(_: Request, __: Exception) -> Response:
    return failed(400, "a text holds half of a surrogate pair (\\ud800 to \\udfff); leave it out")


async def _broken(_: Request, __: Exception) -> Response:
    return failed(500, "the server failed at this request; its log says why")
