"""/b/predict/NAME: what an adapted base predicts of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from broadbase import adapt
from broadbase.core.errors import DataError
from broadbase.serve.records import READERS, record
from broadbase.serve.service import Service, unless_gone

MOST = 4096  # records of a request


def predicting(service: Service) -> APIRouter:
    """Return the route of predictions."""
    router = APIRouter()

    @router.post("/b/predict/{name}", response_model=None)
    async def predict(
        name: str, records: Annotated[list[Any], Body()], request: Request
    ) -> Sequence[Mapping[str, Any]]:
        """Return a row for each record, as `load_adapted(FOLDER).predict` does."""
        if name not in service.served.adapted:
            names = ", ".join(service.served.adapted) or "none"
            raise HTTPException(404, f"no adapted base is called {name!r}; there is: {names}")
        adapted = service.served.adapted[name]
        raws = await run_in_threadpool(read_rows, adapted, records)
        service.log_prompt(records)
        return await unless_gone(request, service.job(adapted.predict, raws))

    return router


def read_rows(adapted: adapt.adapted.Adapted, rows: Sequence[Any]) -> list[Any]:
    """Return the raw records of some rows, each a record or an object with the columns that were
    adapted to; DataError names the first that is none."""
    if len(rows) > MOST:
        raise DataError(f"give at most {MOST} records, not {len(rows)}")
    read = adapted.card.get("read", {})
    columns = [read.get("field", "text")]
    columns += [read.get("second", "second")] if adapted.paired else []
    return [_read(row, columns, f"record {i}") for i, row in enumerate(rows)]


def _read(row: Any, columns: Sequence[str], at: str) -> Any:
    paired = len(columns) > 1
    if isinstance(row, Mapping) and not (len(row) == 1 and READERS.keys() & row.keys()):
        missing = [name for name in columns if name not in row]
        if missing:
            raise DataError(f"{at}: it has no column {missing[0]!r}, which the base reads")
        row = [row[name] for name in columns] if paired else row[columns[0]]
    if not paired:
        return record(row, at)
    if not isinstance(row, list) or len(row) != 2:
        raise DataError(f"{at}: expected a pair, as [question, answer]")
    return [record(item, at) for item in row]
