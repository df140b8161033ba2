"""The pages of the studio."""

from __future__ import annotations

import shlex
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from broadbase.report.page import STYLE
from broadbase.studio.runs import runs

HERE = Path(__file__).parent
SECTIONS = {"Runs": "/runs", "Try": "/try", "Map": "/map", "Adapt": "/adapt"}


def pages(root: Path, token: str) -> APIRouter:
    """Return the routes of the pages on the run folders in `root`."""
    router = APIRouter(include_in_schema=False)
    templates = page_templates(token)

    @router.get("/")
    def home() -> Response:
        return RedirectResponse("/runs")

    @router.get("/style.css")
    def style() -> Response:
        return FileResponse(STYLE)  # of the report: charts look the same in both

    router.include_router(runs(root, templates))
    return router


def page_templates(token: str) -> Jinja2Templates:
    """Return the templates of the pages, which escape every value."""
    templates = Jinja2Templates(HERE / "templates")
    templates.env.globals |= {"sections": SECTIONS, "token": token}
    templates.env.filters["quoted"] = shlex.quote  # a word of a command
    return templates


def mount_files(app: FastAPI) -> None:
    """Serve the styles and the script of the pages."""
    app.mount("/static", StaticFiles(directory=HERE / "static"))
