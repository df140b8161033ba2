"""The pages of Adapt: from a dropped table to labels that are predicted.

Whatever takes long is a command of its own, which the page starts and shows (`jobs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from broadbase.adapt.kinds import KINDS
from broadbase.core.errors import ConfigError
from broadbase.studio.adapt_commands import (
    METHODS,
    Choices,
    adapt_command,
    best_base,
    downloads,
    result_command,
)
from broadbase.studio.adapt_state import Adapting
from broadbase.studio.bases import Bases
from broadbase.studio.events import event
from broadbase.studio.jobs import Job
from broadbase.studio.kept import csv_lines, predicted_rows, probabilities
from broadbase.studio.tables import check, guess_field, guess_label, look
from broadbase.studio.uploads import Upload

EVERY = 0.5  # seconds between looks at a job

Text = Annotated[str, Form()]


def adapt_pages(root: Path, bases: Bases, templates: Jinja2Templates) -> APIRouter:
    """Return the routes of Adapt."""
    router = APIRouter(prefix="/adapt", include_in_schema=False)
    adapting = Adapting(root, bases, templates)
    _choosing(router, adapting)
    _watching(router, adapting)
    _using(router, adapting)
    return router


def _choosing(router: APIRouter, adapting: Adapting) -> None:
    """Add the routes from the first page to the start."""

    @router.get("")
    def first(request: Request) -> Response:
        jobs = [job for job in adapting.jobs.all() if job.about.get("what") == "adapt"]
        kept = adapting.kept.all()
        names = {card.name for card in kept}
        others = [job for job in jobs if job.about["of"] not in names]
        context = {"uploads": adapting.uploads.all(), "kept": kept, "jobs": others}
        return adapting.templates.TemplateResponse(request, "adapt.html", context)

    @router.post("/tables")
    async def dropped(file: UploadFile) -> Response:
        upload = await adapting.keep(file)
        await run_in_threadpool(look, upload)  # what cannot be read is refused here
        return JSONResponse({"go": f"/adapt/tables/{upload.id}"})

    @router.get("/tables/{upload_id}")
    def table(request: Request, upload_id: str) -> Response:
        upload = adapting.uploads.get(upload_id)
        context = _choices(adapting, upload)
        return adapting.templates.TemplateResponse(request, "adapt_table.html", context)

    @router.get("/tables/{upload_id}/check")
    def checked(
        request: Request, upload_id: str, field: str = "", label: str = "", kind: str = ""
    ) -> Response:
        upload = adapting.uploads.get(upload_id)
        result = check(upload, field, label, KINDS.get(kind))
        return adapting.templates.TemplateResponse(request, "adapt_check.html", {"check": result})

    @router.post("/tables/{upload_id}/start")
    def start(
        upload_id: str,
        base: Text,
        name: Text,
        field: Text = "",
        label: Text = "",
        second: Text = "",
        kind: Text = "",
        method: Text = "auto",
    ) -> Response:
        upload = adapting.uploads.get(upload_id)
        choice = Choices(field, label, second, kind, base, method)
        out = adapting.kept.path(name)
        if adapting.kept.get(name) or ((job := adapting.job(name)) and job.running):
            raise ConfigError(f"name: {name!r} is taken; give another name")
        command = adapt_command(upload, look(upload), choice, adapting.bases, out)
        files, about = [str(upload.path), str(out)], {"what": "adapt", "of": name}
        adapting.jobs.start(f"adapt-{name}", command, files=files, kind=kind, **about)
        return JSONResponse({"go": f"/adapt/kept/{name}"})


def _choices(adapting: Adapting, upload: Upload) -> dict[str, Any]:
    """Return what the page of a table shows: its columns, what is guessed, what can be chosen."""
    looked = look(upload)
    field, why_field = guess_field(looked)
    label, why_label = guess_label(looked, field)
    return {
        "upload": upload,
        "table": looked,
        "field": field,
        "why_field": why_field,
        "label": label,
        "why_label": why_label,
        "check": check(upload, field, label, None) if field and label else None,
        "kinds": KINDS,
        "methods": METHODS,
        "bases": adapting.bases.usable(),
        "best": best_base(adapting.bases),
        "downloads": downloads(adapting.bases),
        "name": _free(adapting, upload.path.stem),
    }


def _watching(router: APIRouter, adapting: Adapting) -> None:
    """Add the pages of what is adapted and of results, and the events that keep them current."""

    @router.get("/kept/{name}")
    def task(request: Request, name: str) -> Response:
        return adapting.templates.TemplateResponse(request, "adapt_task.html", adapting.task(name))

    @router.get("/results/{name}")
    def result(request: Request, name: str) -> Response:
        context = adapting.result(name)
        return adapting.templates.TemplateResponse(request, "adapt_result.html", context)

    @router.get("/events/{name}")
    def events(request: Request, name: str) -> Response:
        events = _events(adapting, adapting.jobs.get(name), request)
        return StreamingResponse(events, media_type="text/event-stream")

    @router.post("/stop/{name}")
    def stop(name: str) -> Response:
        job = adapting.jobs.get(name)
        job.stop()
        return Response("<p>It stops within seconds.</p>", media_type="text/html")

    @router.get("/download/{name}")
    def download(name: str) -> Response:
        job = adapting.jobs.get(name)
        path = adapting.predicted(job)
        if job.running or not path.is_file():
            raise HTTPException(404, "there are no predictions yet; wait, or predict again")
        table = Path(job.about["table"])
        lines = csv_lines(predicted_rows(table, path))
        headers = {"Content-Disposition": f'attachment; filename="{job.about["of"]}-predicted.csv"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _using(router: APIRouter, adapting: Adapting) -> None:
    """Add the routes that use what is kept."""

    @router.post("/kept/{name}/predict")
    async def predict(name: str, file: UploadFile) -> Response:
        card = adapting.kept.card(name)
        upload = await adapting.keep(file)
        return await run_in_threadpool(_start, adapting, "predict", card, upload)

    @router.post("/kept/{name}/suggest")
    async def suggest(name: str, file: UploadFile) -> Response:
        card = adapting.kept.card(name)
        upload = await adapting.keep(file)
        return await run_in_threadpool(_start, adapting, "suggest", card, upload)

    @router.post("/kept/{name}/doubts")
    def doubts(name: str) -> Response:
        return _start(adapting, "doubts", adapting.kept.card(name), None)

    @router.post("/kept/{name}/record")
    async def record(request: Request, name: str, text: Text = "", second: Text = "") -> Response:
        card = adapting.kept.card(name)
        if not text.strip():
            raise ConfigError("there is no text; type one, and press Predict")
        raw = (text, second) if card.description.get("paired") else text
        (row,) = await adapting.bases.worker.run(adapting.kept.predict, name, [raw])
        context = {"row": row, "classes": probabilities(row)}
        return adapting.templates.TemplateResponse(request, "adapt_record.html", context)


def _start(adapting: Adapting, what: str, card: Any, upload: Upload | None) -> Response:
    """Start a command on what is kept, and go to the page of its result."""
    job_name = f"{what}-{card.name}" + (f"-{upload.id}" if upload else "")
    out = adapting.jobs.folder / job_name / "predicted.csv"
    kind = str(((job := adapting.job(card.name)) and job.about.get("kind")) or "")
    command, note = result_command(what, card, upload, out, kind)
    table = str(upload.path) if upload else card.read.get("data", "")
    out.unlink(missing_ok=True)
    about = {
        "what": what,
        "of": card.name,
        "table": table,
        "note": note,
        "of_table": Path(table).name,
    }
    files = [table, str(card.folder), card.read.get("data", ""), str(out)]
    adapting.jobs.start(job_name, command, files=[each for each in files if each], **about)
    return JSONResponse({"go": f"/adapt/results/{job_name}"})


async def _events(adapting: Adapting, job: Job, request: Request) -> AsyncIterator[str]:
    """Yield the changing part of a page whenever its job says something, until it ends."""
    stamp = None
    while not await request.is_disconnected():
        running = await run_in_threadpool(lambda: job.running)
        now = (running, *job.stamp)
        if now != stamp:
            yield event("part", await run_in_threadpool(_part, adapting, job))
            if said := adapting.said(job, job.progress()):
                yield event("say", said)
            stamp = now
        if not running:
            yield event("done", "It did not end well" if job.error() else "Done")
            return
        await asyncio.sleep(EVERY)


def _part(adapting: Adapting, job: Job) -> str:
    """Return the part of a page that changes while a job runs."""
    if job.about.get("what") == "adapt":
        context, name = adapting.task(str(job.about["of"])), "adapt_task_part.html"
    else:
        context, name = adapting.result(job.name), "adapt_result_part.html"
    return adapting.templates.get_template(name).render(context)


def _free(adapting: Adapting, stem: str) -> str:
    """Return a name that nothing has yet."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-_")[:34] or "task"
    names = [plain, *(f"{plain}-{i}" for i in range(2, 1000))]
    return next(name for name in names if not (adapting.kept.get(name) or adapting.job(name)))
