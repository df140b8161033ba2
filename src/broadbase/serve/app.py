"""The application: routes behind the guard, and every error as a client reads it."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from broadbase.core.errors import BroadbaseError, ResourceError
from broadbase.serve.guard import Guard, error_body
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import FullError

RETRY = 1  # seconds after which a client may ask again when the queue is full


def create(
    settings: ServeConfig, routers: Iterable[APIRouter], token: str | None = None
) -> FastAPI:
    """Return the application of some routers; `token` is what pages send to change something."""
    app = FastAPI(title="Broadbase", docs_url=None, redoc_url=None)  # their pages load from a CDN
    app.include_router(health())
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(BroadbaseError, _refused)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    limits = {"/": settings.max_upload_bytes, "/v1/": settings.max_body_bytes}
    limits["/b/"] = settings.max_body_bytes
    app.add_middleware(Guard, hosts=settings.hosts, api_key=key, token=token, max_body=limits)
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
    field = ".".join(str(part) for part in first["loc"][1:])
    return failed(400, f"{field}: {first['msg']}" if field else first["msg"], field or None)
