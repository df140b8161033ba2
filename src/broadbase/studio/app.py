"""The application of the studio: its pages, and the files they need."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from broadbase.serve.app import create
from broadbase.serve.settings import ServeConfig
from broadbase.studio.adapting import adapt_pages
from broadbase.studio.bases import Bases
from broadbase.studio.pages import mount_files, page_templates, pages


def studio_app(
    root: Path,
    bases: Bases,
    settings: ServeConfig,
    token: str,
) -> FastAPI:
    """Return the studio on the run folders in `root`, and on the bases there and given ones."""
    adapt = adapt_pages(root, bases, page_templates(token))
    app = create(settings, [pages(root, token), adapt], token)
    mount_files(app)
    return app
