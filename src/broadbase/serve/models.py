"""Which models there are: /v1/models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.serve.served import Served


def models(served: Served) -> APIRouter:
    """Return the routes that list models."""
    router = APIRouter()

    @router.get("/v1/models")
    def listed() -> dict[str, Any]:
        """List the bases and adapted bases."""
        names = [*served.bases, *served.adapted]
        return {"object": "list", "data": [_entry(name) for name in names]}

    return router


def named(served: Served, name: str) -> Base:
    """Return the base of a name; ConfigError lists the names."""
    if name not in served.bases:
        names = ", ".join(served.bases) or "none"
        raise ConfigError(f"model: no base is called {name!r}; this server has: {names}")
    return served.bases[name]


def _entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "local"}
