"""/b/runs: the runs of a folder, and what a run writes into metrics.jsonl, as it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from broadbase.serve.traffic import Gate

METRICS, CONFIG, MODEL = "metrics.jsonl", "config.yaml", "model"
MOST = 1 << 18  # bytes that are read at once
TAIL = 1 << 14  # bytes in which the last line is looked for
SECONDS = 0.5  # between two looks
ALIVE = 15.0  # seconds of silence after which a comment shows that the server is there
NONE = "this server shows no runs; start it with --runs FOLDER"


def running(root: Path | None) -> APIRouter:
    """Return the routes on the runs in `root`; without it they say so."""
    router = APIRouter()

    @router.get("/b/runs")
    def runs() -> dict[str, Any]:
        """List the runs, the one that was written to last first."""
        if root is None:
            raise HTTPException(404, NONE)
        folders = [path.parent for path in root.glob(f"*/{CONFIG}") if _inside(root, path)]
        rows = sorted(map(summary, folders), key=lambda row: -row["modified"])
        return {"object": "list", "data": rows}

    @router.get("/b/runs/{name}/events", response_model=None)
    async def events(name: str, request: Request) -> StreamingResponse:
        """Follow the metrics of a run; `Last-Event-ID` says from which byte on."""
        if root is None:
            raise HTTPException(404, NONE)
        folder = await run_in_threadpool(find, root, name)
        given = request.headers.get("last-event-id", "0")
        offset = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else 0
        lines = follow(folder / METRICS, offset, request.app.state.gate)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(lines, media_type="text/event-stream", headers=headers)

    return router


def find(root: Path, name: str) -> Path:
    """Return the folder of a run; HTTPException 404 if there is none in `root` itself."""
    plain = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    if not plain or not _inside(root, root / name / CONFIG):
        raise HTTPException(404, "there is no such run")
    return root / name


def summary(folder: Path) -> dict[str, Any]:
    """Return name, state and last step of a run, without reading all of its metrics."""
    metrics = folder / METRICS
    changed = metrics if metrics.exists() else folder / CONFIG
    last = _last(metrics)
    return {
        "id": folder.name,
        "finished": (folder / MODEL).exists(),
        "step": last.get("step"),
        "loss": last.get("loss"),
        "modified": changed.stat().st_mtime,
    }


async def follow(path: Path, offset: int, gate: Gate) -> AsyncIterator[str]:
    """Yield each line of a file after `offset` bytes as an event, as soon as it is complete.

    The id of an event is the offset after its line. A file that became shorter, as of a resumed
    run, is read again from its start, which an event `restart` says. Ends when the server does.
    """
    silent = 0.0
    while not gate.draining:
        size, lines = await run_in_threadpool(_read, path, offset)
        if size < offset:
            offset = 0
            yield "event: restart\nid: 0\ndata: {}\n\n"
            continue
        for line in lines:
            offset += len(line)
            text = line.decode(errors="replace").strip()
            if text:
                yield f"id: {offset}\ndata: {text}\n\n"
        silent = 0.0 if lines else silent + SECONDS
        if silent >= ALIVE:
            silent = 0.0
            yield ": alive\n\n"
        if not lines:
            await asyncio.sleep(SECONDS)


def _read(path: Path, offset: int) -> tuple[int, list[bytes]]:
    """Return the size of a file, and its complete lines among the bytes after `offset`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(min(offset, size))
            data = file.read(MOST)
    except OSError:
        return offset, []
    end = data.rfind(b"\n") + 1
    return size, data[:end].splitlines(keepends=True)


def _last(path: Path) -> dict[str, Any]:
    """Return the last complete row of a file of JSON lines; empty if there is none."""
    try:
        size = path.stat().st_size
    except OSError:
        return {}
    _, lines = _read(path, max(0, size - TAIL))
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and "loss" in row:
            return row
    return {}


def _inside(root: Path, path: Path) -> bool:
    """Return whether a file is there, and in `root` also when links are followed."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):
        return False
