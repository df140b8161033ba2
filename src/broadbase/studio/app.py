"""The application of the studio: its pages, and the files they need."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from broadbase.serve.app import create
from broadbase.serve.settings import ServeConfig
from broadbase.studio.adapting import adapt_pages
from broadbase.studio.bases import Bases
from broadbase.studio.mapping import map_pages
from broadbase.studio.pages import mount_files, page_templates, pages
from broadbase.studio.trying import trying


def studio_app(
    root: Path,
    bases: Bases,
    settings: ServeConfig,
    token: str,
) -> FastAPI:
    """Return the studio on the run folders in `root`, and on the bases there and given ones."""
    templates = page_templates(token)
    routers = [
        pages(root, token),
        trying(bases, templates),
        map_pages(root, bases, templates),
        adapt_pages(root, bases, templates),
    ]
    app = create(settings, routers, token)
    mount_files(app)
    return app
