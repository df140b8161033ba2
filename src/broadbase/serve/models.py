"""Which models there are, and how busy the server is: /v1/models, /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from broadbase.serve.meters import TYPE
from broadbase.serve.service import Service


def models(service: Service) -> APIRouter:
    """Return the routes that list models and counts."""
    router = APIRouter()
    names = [*service.served.bases, *service.served.adapted, *service.served.adapters]

    @router.get("/v1/models")
    def listed() -> dict[str, Any]:
        """List the bases, adapted bases and adapters."""
        return {"object": "list", "data": [_entry(name) for name in names]}

    @router.get("/v1/models/{name}")
    def one(name: str) -> dict[str, Any]:
        """Describe one of them."""
        if name not in names:
            raise HTTPException(404, f"model: none is called {name!r}; there is: {names}")
        return _entry(name)

    @router.get("/metrics")
    def metrics() -> PlainTextResponse:
        """Return the counts of the server in Prometheus' text format."""
        gauges = {"waiting": service.worker.waiting, "live_rows": service.worker.live}
        return PlainTextResponse(service.meters.text(gauges), media_type=TYPE)

    return router


def _entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "local"}
