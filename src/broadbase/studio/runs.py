"""The pages of runs: the list, one run while it trains, several compared."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from markupsafe import Markup
from starlette.exceptions import HTTPException

from broadbase.report.compare_page import compared
from broadbase.report.run_page import RunView, day, duration
from broadbase.run.journal import History
from broadbase.run.summary import Summaries
from broadbase.studio import control
from broadbase.studio.folders import Folders
from broadbase.studio.live import Watches

PAGE = 50  # runs of a page
OPEN = 32  # journals in memory
MOST = 8  # runs that are compared


class Views:
    """What was read of runs, kept for the next reading."""

    def __init__(self, root: Path) -> None:
        """Take the folder that holds the runs."""
        self.folders, self.summaries, self.watches = Folders(root), Summaries(), Watches()
        self._journals: OrderedDict[Path, History] = OrderedDict()

    def of(self, folder: Path) -> RunView:
        """Read a run as far as it is written."""
        if folder not in self._journals:
            self._journals[folder] = History(folder / "metrics.jsonl")
        self._journals.move_to_end(folder)
        while len(self._journals) > OPEN:
            self._journals.popitem(last=False)
        return RunView.of(folder, self.summaries, self._journals[folder])


def runs(root: Path, templates: Jinja2Templates) -> APIRouter:
    """Return the routes of the pages of runs."""
    router, views = APIRouter(), Views(root)
    templates.env.filters |= {"day": day, "duration": duration}

    @router.get("/runs")
    def listed(request: Request, page: Annotated[int, Query(ge=1, le=10_000)] = 1) -> Response:
        folders = views.folders.newest_first()
        shown = folders[(page - 1) * PAGE : page * PAGE]
        context = {
            "runs": [views.summaries.of(folder) for folder in shown],
            "page": page,
            "pages": max(1, math.ceil(len(folders) / PAGE)),
            "count": len(folders),
        }
        return templates.TemplateResponse(request, "runs.html", context)

    @router.get("/runs/latest")
    def latest() -> Response:
        folders = views.folders.newest_first()
        return RedirectResponse(f"/runs/{quote(folders[0].name, safe='')}" if folders else "/runs")

    @router.get("/runs/{name}")
    def one(request: Request, name: str) -> Response:
        view = views.of(views.folders.run(name))
        context = _context(view) | {"rest": Markup(view.rest())}
        return templates.TemplateResponse(request, "run.html", context)

    @router.get("/runs/{name}/live")
    def live(request: Request, name: str) -> Response:
        view = views.of(views.folders.run(name))
        return templates.TemplateResponse(request, "live.html", _context(view))

    @router.get("/runs/{name}/report.html")
    def report(name: str) -> Response:
        view = views.of(views.folders.run(name))
        headers = {"Content-Disposition": 'attachment; filename="report.html"'}
        return HTMLResponse(view.page(), headers=headers)

    @router.get("/runs/{name}/events")
    async def events(request: Request, name: str) -> Response:
        stream = _events(request, views.watches, views.folders.run(name))
        return StreamingResponse(stream, 200, {"Cache-Control": "no-store"}, "text/event-stream")

    @router.post("/runs/{name}/stop")
    def stop(request: Request, name: str) -> Response:
        control.stop(views.folders.run(name))
        return live(request, name)

    @router.post("/runs/{name}/resume")
    def resume(request: Request, name: str) -> Response:
        control.resume(views.folders.run(name))
        return live(request, name)

    _compare(router, views, templates)
    return router


def _compare(router: APIRouter, views: Views, templates: Jinja2Templates) -> None:
    """Add the route of the page that compares runs."""

    @router.get("/compare")
    def compare(request: Request, run: Annotated[list[str] | None, Query()] = None) -> Response:
        names = [*dict.fromkeys(run or ())]
        if len(names) > MOST:
            raise HTTPException(400, f"{len(names)} runs are too many to compare; give 2 to {MOST}")
        read = [views.of(views.folders.run(name)) for name in names]
        result = Markup(compared(read)) if len(read) > 1 else None
        others = views.folders.newest_first()[:PAGE]
        context = {"names": names, "result": result, "others": [path.name for path in others]}
        return templates.TemplateResponse(request, "compare.html", context)


def _context(view: RunView) -> dict[str, object]:
    return {"run": view.summary, "live": Markup(view.live())}


async def _events(request: Request, watches: Watches, folder: Path) -> AsyncIterator[str]:
    """Yield an event when a file of a run changes, until the viewer or the server goes."""
    async for changed in watches.changes(folder):
        if request.app.state.gate.draining:
            return
        yield "event: change\ndata:\n\n" if changed else ":\n\n"
