"""The page Try: give bases a text, a picture or a sound, and see what each makes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from broadbase.core.errors import BroadbaseError
from broadbase.inference.streaming import Guess, Streamed
from broadbase.report.charts import SYMBOLS
from broadbase.serve.worker import FullError
from broadbase.studio.answers import answers
from broadbase.studio.bases import Bases
from broadbase.studio.events import event
from broadbase.studio.inputs import CHARACTERS, NEW_TOKENS, given
from broadbase.studio.run_data import RunData
from broadbase.studio.shown import Files
from broadbase.studio.trial import Event, Token

TOGETHER = 4  # bases side by side
LEVELS = 10  # shades of a probability
# Of characters that are not seen
SIGNS = str.maketrans(SYMBOLS | {" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"})


def trying(bases: Bases, templates: Jinja2Templates) -> APIRouter:
    """Return the routes of the page."""
    router, data, files = APIRouter(include_in_schema=False), RunData(), Files("/try/files")
    templates.env.filters |= {"visible": visible}

    @router.get("/try")
    def page(request: Request) -> Response:
        some = bases.usable()
        chosen = request.query_params.getlist("base") or [some[0].name] if some else []
        spaces = sorted({space for each in some for space in each.modalities})
        values = {
            "bases": some,
            "chosen": chosen,
            "spaces": spaces,
            "most": TOGETHER,
            "characters": CHARACTERS,
            "new_tokens": NEW_TOKENS,
            "root": bases.root,
        }
        return templates.TemplateResponse(request, "try.html", values)

    @router.post("/try")
    async def answer(request: Request) -> Response:
        """Stream what one base answers, as server-sent events."""
        form = await request.form()
        description = await run_in_threadpool(bases.describe, str(form.get("base", "")))
        sent = form.get("file")
        content = await sent.read() if isinstance(sent, UploadFile) else b""
        name = (sent.filename or "") if isinstance(sent, UploadFile) else ""
        what = await run_in_threadpool(given, form, name, content)
        events = answers(bases, description, what, data, files)
        return StreamingResponse(_sent(events, templates), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-store"})  # fmt: skip

    @router.get("/try/files/{name}")
    def file(name: str) -> Response:
        kept = files.get(name)
        if kept is None:
            raise HTTPException(404, "this file is no longer kept; try again")
        content, media_type = kept
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})

    return router


async def _sent(events: AsyncIterator[Event], templates: Jinja2Templates) -> AsyncIterator[str]:
    """Yield events as text; an error that a person can act on is the last one."""
    try:
        async for each in events:
            if isinstance(each, Token):
                values = {"lane": each.lane, **token_values(each.token)}
                yield event("token", json.dumps(values))
            else:
                html = templates.get_template(each.template).render(**each.values)
                yield event("part", json.dumps({"target": each.target, "html": html}))
    except (BroadbaseError, HTTPException) as error:
        words = error.detail if isinstance(error, HTTPException) else str(error)
        yield event("problem", json.dumps({"words": words}))
    except FullError:
        words = "too many requests wait; try again in a moment"
        yield event("problem", json.dumps({"words": words}))
    except Exception as error:
        words = f"this failed ({type(error).__name__}); see the log"
        yield event("problem", json.dumps({"words": words}))
        raise
    yield event("done", "{}")


def token_values(token: Streamed) -> dict[str, Any]:
    """Return what the page shows of a token: its text, its shade, and its numbers in words."""
    listed = ", ".join(_guess(guess) for guess in token.alternatives)
    return {
        "text": token.text,
        "level": min(LEVELS - 1, int(LEVELS * token.guess.probability)),
        "detail": f"{_guess(token.guess)}. Likeliest here: {listed}",
    }


def visible(text: str) -> str:
    """Return a text whose blanks are shown as signs."""
    return text.translate(SIGNS)


def _guess(guess: Guess) -> str:
    return f"\u201c{visible(guess.text)}\u201d {guess.probability:.3f}"
