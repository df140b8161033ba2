"""The work of `search`: the passages of an index for a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broadbase.adapt.reading import reader
from broadbase.commands.work.index import loaded
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.sources import Record
from broadbase.core.terminal import echo
from broadbase.data.detect import unlabelled
from broadbase.index.reading import MODALITY, unit_vectors
from broadbase.index.search import WEIGHT, Hit, Searcher
from broadbase.index.store import Store

SHOWN = 300  # characters of a passage that are printed


def search(
    file: Path,
    query: str,
    folder: Path | None,
    k: int,
    weight: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Print the best passages for a query, with source and span; all of a passage as JSON.

    The base is not loaded where vectors do not count.
    """
    store = Store.open(file)
    raw = _record(query)
    weight = WEIGHT if weight is None else weight
    text, vector = raw if isinstance(raw, str) else None, None
    if weight or text is None:
        base, modality = loaded(store, folder, device), store.facts[MODALITY]
        try:
            cleaned = reader(base, modality)(raw)
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the query {query[:60]!r} cannot be read as {modality}: {error}"
            ) from None
        (vector,) = unit_vectors(base, modality, [cleaned])
    hits = Searcher.of(store).search(text, vector, k, weight)
    if as_json:
        echo(json.dumps([as_plain(hit) for hit in hits], ensure_ascii=False))
        return
    for i, hit in enumerate(hits, 1):
        _show(i, hit)
    if not hits:
        raise DataError(
            f"no passage of {file} has a word of the query; search with --weight above 0"
        )


def as_plain(hit: Hit) -> dict[str, Any]:
    """Return a passage as plain values."""
    return {
        "source": hit.origin,
        "start": hit.start,
        "stop": hit.stop,
        "score": hit.score,
        "cosine": hit.cosine,
        "text": hit.text,
    }


def _record(query: str) -> Any:
    """Return the record of a file that the query names, or the query itself."""
    try:
        path = Path(query).expanduser()
        if not path.is_file():
            return query
    except (OSError, RuntimeError, ValueError):  # too long for a path
        return query
    records = (item for item in unlabelled(str(path), "text", {}).records())
    record = next((item for item in records if isinstance(item, Record)), None)
    if record is None:
        raise ConfigError(
            f"{query} is a file without a record that can be read; give another query"
        )
    return record.raw


def _show(number: int, hit: Hit) -> None:
    where = f"{hit.origin}" + (f", characters {hit.span}" if hit.span else "")
    cosine = "" if hit.cosine is None else f", cosine {hit.cosine:.3f}"
    echo(f"{number}. {where}  (score {hit.score:.3f}{cosine})")
    if hit.text:
        text = " ".join(hit.text.split())
        echo(f"   {text if len(text) <= SHOWN else text[:SHOWN] + '…'}")
