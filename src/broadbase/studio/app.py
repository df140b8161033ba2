"""The application of the studio: its pages, and the files they need."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from broadbase.serve.app import create
from broadbase.serve.settings import ServeConfig
from broadbase.studio.bases import Bases
from broadbase.studio.pages import mount_files, pages


def studio_app(
    root: Path,
    bases: Bases,  # noqa: ARG001 - for the pages to come
    settings: ServeConfig,
    token: str,
) -> FastAPI:
    """Return the studio on the run folders in `root`, and on the bases there and given ones."""
    app = create(settings, [pages(root, token)], token)
    mount_files(app)
    return app
