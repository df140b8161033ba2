"""/b/neighbours: the records that are nearest to one, by the cosine of their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.sources import Record
from broadbase.data import detect
from broadbase.index.database import is_index
from broadbase.index.reading import DIGEST, MODALITY, must_be_of, unit, unit_vectors
from broadbase.index.search import Searcher
from broadbase.index.store import Store
from broadbase.inference.base import Base
from broadbase.serve.bodies import NeighboursBody
from broadbase.serve.records import record
from broadbase.serve.service import Service, unless_gone

MOST = 100_000  # records of a file
DEFAULT = 5  # neighbours

Vectors = NDArray[np.float32]


@dataclass
class Files:
    """The files and indexes that can be searched, by name; vectors are kept when computed."""

    paths: Mapping[str, Path] = field(default_factory=dict)
    _vectors: dict[tuple[str, str, str], tuple[list[Any], Vectors]] = field(default_factory=dict)
    _bases: dict[str, Base] = field(default_factory=dict)  # by the digest that an index has

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Files:
        """Return files under their names without ending; ConfigError where two have one name."""
        named = {path.stem: path for path in paths}
        if len(named) < len(paths):
            raise ConfigError("two files of --records have one name; rename one")
        return cls(named)

    def is_index(self, name: str | None) -> bool:
        """Return whether a name is that of an index."""
        path = None if name is None else self.paths.get(name)
        return path is not None and path.is_file() and is_index(path)

    def search(
        self, base: Base, modality: str, name: str, query: Any, k: int
    ) -> list[dict[str, Any]]:
        """Return the k passages of an index that are nearest to a record, as the index is now.

        ConfigError where it is of another base or modality.
        """
        store = Store.open(self.paths[name])
        try:
            digest = store.facts[DIGEST]
            if self._bases.get(digest) is not base:
                must_be_of(store, base)
                self._bases[digest] = base
            if (own := store.facts[MODALITY]) != modality:
                raise ConfigError(f"file: {name} is an index of {own}; leave modality out")
            (vector,) = unit_vectors(base, modality, [query])
            hits = Searcher.of(store).search(None, vector, k, 1.0)
        finally:
            store.close()
        return [
            {
                "index": i,
                "cosine": hit.cosine,
                "record": hit.text or Path(hit.origin).name,
                "source": hit.origin,
                "span": hit.span,
            }
            for i, hit in enumerate(hits)
        ]

    def vectors(
        self, base: Base, model: str, modality: str, name: str
    ) -> tuple[list[Any], Vectors]:
        """Return the records of a file as JSON shows them, and their vectors of length 1."""
        if name not in self.paths:
            names = ", ".join(self.paths) or "none, as --records was not given"
            raise ConfigError(f"file: no file is called {name[:60]!r}; there is: {names}")
        key = (model, modality, name)
        if key not in self._vectors:
            records = list(self._records(name))
            rows = base.embed([r.raw for r in records], modality=modality, layers=False)
            shown = [r.raw if isinstance(r.raw, str) else Path(r.origin).name for r in records]
            self._vectors[key] = shown, unit(rows)
        return self._vectors[key]

    def _records(self, name: str) -> Iterator[Record]:
        for i, each in enumerate(detect.unlabelled(str(self.paths[name]), "text", {}).records()):
            if i == MOST:
                raise DataError(f"file: {name} has more than {MOST:,} records; serve a part of it")
            if isinstance(each, Record):
                yield each


def neighbouring(service: Service, files: Files) -> APIRouter:
    """Return the route of neighbours."""
    router = APIRouter()

    @router.post("/b/neighbours", response_model=None)
    async def neighbours(body: NeighboursBody, request: Request) -> dict[str, Any]:
        """Return the records nearest to one, the nearest first."""
        if (body.records is None) == (body.file is None):
            raise ConfigError("give either `records` or the name of a `file`")
        base = service.base(body.model)
        modality = base.codec(body.modality)[0]
        query, raws = await run_in_threadpool(_read, body)

        def search() -> list[dict[str, Any]]:
            if body.file is not None and files.is_index(body.file):
                return files.search(base, modality, body.file, query, body.k or DEFAULT)
            if body.file is None:
                shown: list[Any] = [*(body.records or ())]
                rows = unit(base.embed(raws, modality=modality, layers=False))
            else:
                shown, rows = files.vectors(base, body.model, modality, body.file)
            return nearest(base, modality, query, shown, rows, body.k or DEFAULT)

        service.log_prompt(body.query)
        data = await unless_gone(request, service.job(search))
        return {"object": "list", "model": body.model, "data": data}

    return router


def _read(body: NeighboursBody) -> tuple[Any, list[Any]]:
    """Return the raw record of the query, and those among which it has neighbours."""
    raws = [record(each, f"records {i}") for i, each in enumerate(body.records or ())]
    return record(body.query, "query"), raws


def nearest(
    base: Base, modality: str, query: Any, shown: Sequence[Any], rows: Vectors, k: int
) -> list[dict[str, Any]]:
    """Return the k rows [M,D] of largest cosine with the vector of `query`, each with its index."""
    (vector,) = unit(base.embed([query], modality=modality, layers=False))
    cosines = rows @ vector
    order = np.argsort(-cosines, kind="stable")[:k]
    return [{"index": int(i), "cosine": float(cosines[i]), "record": shown[i]} for i in order]
