"""The pages of Map: records in two dimensions, their neighbours, copies, and labels in doubt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from broadbase.adapt.encoder import LAST, Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.reading import kind_of, reader
from broadbase.adapt.vector_cache import opened
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.data.detect import unlabelled
from broadbase.inference.base import Base
from broadbase.studio.adapt_commands import best_base
from broadbase.studio.bases import Bases
from broadbase.studio.events import event
from broadbase.studio.map_chart import HEIGHT, WIDTH, dots, sign_of, signs
from broadbase.studio.map_data import (
    Items,
    Mapped,
    by_components,
    by_tsne,
    held_out_items,
    mapped,
    table_items,
)
from broadbase.studio.tables import guess_field, guess_label, look
from broadbase.studio.uploads import Upload, Uploads

BATCH, KEPT = 32, 4  # records that are read at once; maps in memory

Text = Annotated[str, Form()]
Key = tuple[str, str, str, str]  # the table or the run, the base, the columns


class Maps:
    """What the pages share: the tables, the bases, and the maps in memory."""

    def __init__(self, root: Path, bases: Bases, templates: Jinja2Templates) -> None:
        """Take the root of the studio, and the bases that read records."""
        self.bases, self.templates = bases, templates
        self.uploads = Uploads(root / ".studio" / "uploads")
        self._maps: OrderedDict[Key, Mapped] = OrderedDict()

    def source(self, of: str) -> Upload | None:
        """Return a table; None where `of` is the name of a base that has a run."""
        if of.startswith("run-"):
            if self.bases.describe(of[4:]).run is None:
                raise HTTPException(404, "the data of this base are not here")
            return None
        return self.uploads.get(of)

    async def make(self, key: Key) -> AsyncIterator[tuple[int, int] | Mapped]:
        """Yield how many records are read, and then the map; one in memory comes at once."""
        if key in self._maps:
            self._maps.move_to_end(key)
            yield self._maps[key]
            return
        base = await self.bases.get(key[1])
        items = await run_in_threadpool(self._items, base, key)
        encoder = Encoder(base, items.modality, opened())
        raws = [item.raw for item in items.items]
        for i in range(0, len(raws), BATCH):
            yield i, len(raws)
            await self.bases.worker.run(encoder.keep, Inputs(raws[i : i + BATCH]))
        self._maps[key] = await self.bases.worker.run(mapped, encoder, items)
        while len(self._maps) > KEPT:
            self._maps.popitem(last=False)
        yield self._maps[key]

    def _items(self, base: Base, key: Key) -> Items:
        of, _, field, label = key
        upload = self.source(of)
        if upload is None:
            description = self.bases.describe(of[4:])
            space = next(iter(description.modalities))
            return held_out_items(description.run, space)
        names = look(upload).names
        if field not in names:
            raise ConfigError(f"Text: choose one of the columns {', '.join(names)}")
        columns = {"label": label} if label else {}
        try:
            source = unlabelled(str(upload.path), field, columns)
            return table_items(base, kind_of(base, source), source, upload.name)
        except DataError as error:
            raise DataError(upload.said(str(error))) from None

    async def finished(self, key: Key) -> Mapped:
        """Return a map, made now where it is not in memory."""
        async for each in self.make(key):
            if isinstance(each, Mapped):
                return each
        raise AssertionError

    async def vector(self, of: Mapped, text: str) -> Any:
        """Return the vector of a text that was typed; DataError where it cannot be read."""

        def embedded() -> Any:
            try:
                raw = reader(of.encoder.base, of.encoder.modality)(text)
            except (TypeError, ValueError) as error:
                raise DataError(f"this cannot be read: {error}; type another record") from None
            return of.encoder.vectors(Inputs([raw]), LAST)[0]

        return await self.bases.worker.run(embedded)


def map_pages(root: Path, bases: Bases, templates: Jinja2Templates) -> APIRouter:
    """Return the routes of Map."""
    router = APIRouter(prefix="/map", include_in_schema=False)
    maps = Maps(root, bases, templates)
    _choosing(router, maps)
    _showing(router, maps)
    return router


def _choosing(router: APIRouter, maps: Maps) -> None:
    """Add the first page, and what is dropped there."""

    @router.get("")
    def first(request: Request) -> Response:
        usable = maps.bases.usable()
        context = {"uploads": maps.uploads.all(), "runs": [each for each in usable if each.run]}
        return maps.templates.TemplateResponse(request, "map.html", context)

    @router.post("/tables")
    async def dropped(file: UploadFile) -> Response:
        if not file.filename:
            raise ConfigError("no file was chosen; choose one, or drop it on the page")
        upload = await run_in_threadpool(maps.uploads.keep, file.filename, file.file)
        await run_in_threadpool(look, upload)
        return JSONResponse({"go": f"/map/of/{upload.id}"})

    @router.get("/of/{of}")
    def page(
        request: Request, of: str, base: str = "", field: str = "", label: str | None = None
    ) -> Response:
        upload = maps.source(of)
        context: dict[str, Any] = {
            "of": of,
            "upload": upload,
            "bases": maps.bases.usable(),
            "columns": [],
        }
        if upload is not None:
            table = look(upload)
            field = field or guess_field(table)[0]
            label = guess_label(table, field)[0] if label is None else label
            context["columns"] = table.names
        base = of[4:] if upload is None else base or best_base(maps.bases)
        context |= {"base": base, "field": field, "label": label or ""}
        return maps.templates.TemplateResponse(request, "map_of.html", context)


def _showing(router: APIRouter, maps: Maps) -> None:
    """Add the points as they come, and what is near a record."""

    @router.get("/of/{of}/events")
    def events(of: str, base: str, field: str = "", label: str = "") -> Response:
        maps.source(of)
        stream = _points(maps, (of, base, field, label))
        return StreamingResponse(stream, media_type="text/event-stream")

    @router.post("/of/{of}/near")
    async def near(
        request: Request,
        of: str,
        base: Text,
        field: Text = "",
        label: Text = "",
        text: Text = "",
        number: Annotated[int | None, Form()] = None,
    ) -> Response:
        maps.source(of)
        made = await maps.finished((of, base, field, label))
        if number is not None and 0 <= number < len(made.items):
            what, vector = made.items[number].text, made.vectors[number]
        elif text.strip():
            what, number, vector = text.strip(), None, await maps.vector(made, text)
        else:
            raise ConfigError("there is no record; type one, or pick one in the table")
        rows = [(made.items[i], distance) for i, distance in made.near(vector, number)]
        context = {"what": what, "rows": rows}
        return maps.templates.TemplateResponse(request, "map_near.html", context)


async def _points(maps: Maps, key: Key) -> AsyncIterator[str]:
    """Yield the map by its principal components, and then by t-SNE in its place."""
    try:
        async for each in maps.make(key):
            if not isinstance(each, Mapped):
                yield event("say", f"{each[0]:,} of {each[1]:,} records are read")
                continue
            render = _renderer(maps, each, await maps.bases.worker.run(each.doubtful))
            how = "principal components; t-SNE follows"
            yield event("part", await run_in_threadpool(render, by_components(each.vectors), how))
            points = await maps.bases.worker.run(by_tsne, each.vectors)
            if points is not None:
                how = "t-SNE: near points are alike, distances between groups mean little"
                yield event("part", await run_in_threadpool(render, points, how))
            yield event("done", f"The map is drawn: {each.said}")
    except (BroadbaseError, HTTPException) as error:
        said = error.detail if isinstance(error, HTTPException) else str(error)
        yield event("failed", said)


def _renderer(maps: Maps, of: Mapped, doubtful: Any) -> Callable[[Any, str], str]:
    """Return what renders the part of the page with the points."""
    among = signs(of.items)
    copies, pairs = of.copies()
    said, listed = doubtful

    def render(points: Any, how: str) -> str:
        context = {
            "items": [(i, item, sign_of(item, among)) for i, item in enumerate(of.items)],
            "dots": dots(of.items, points, among),
            "signs": among.values(),
            "size": (WIDTH, HEIGHT),
            "how": how,
            "said": of.said,
            "copies": copies,
            "pairs": [(of.items[a], of.items[b], cosine) for a, b, cosine in pairs],
            "doubted": said,
            "doubts": [(of.items[i], suggested, p) for i, suggested, p in listed],
        }
        return maps.templates.get_template("map_part.html").render(context)

    return render
