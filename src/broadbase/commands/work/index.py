"""The work of `index`: documents into an index, out of it, and its vectors as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from broadbase.adapt.inputs import content
from broadbase.adapt.reading import kind_of, reader
from broadbase.commands.options import log
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.files import draft_file
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.core.terminal import echo
from broadbase.data.detect import STORE, detect, unlabelled
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.index import vectors
from broadbase.index.reading import BASE, MODALITY, TOKENS, facts_of, must_be_of, unit_vectors
from broadbase.index.store import Store
from broadbase.index.writing import Reading, Update, matching, update
from broadbase.inference.base import Base
from broadbase.train.machine import MachineConfig, find_device
from broadbase.weights.folder import load
from broadbase.weights.samples import sample_name

EVERY = 10.0  # seconds between lines of progress
ROWS = 10_000  # of a row group of Parquet


def index(
    out: Path,
    docs: str | None,
    base: Path | None,
    modality: str | None,
    field: str,
    pattern: str | None,
    tokens: int | None,
    *,
    remove: bool,
    export: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Update an index, remove documents from it, or export its vectors.

    What can be refused is refused before the base is loaded.
    """
    if docs is None and (export is None or remove):
        raise ConfigError("give the documents to index, or --export FILE.parquet")
    if export is not None and export.suffix != ".parquet":
        raise ConfigError(f"{export} is no .parquet file; give --export another ending")
    if docs is not None:
        name = str(Path(docs).expanduser().absolute()) if Path(docs).expanduser().exists() else docs
        if remove:
            summary = _removed(out, name if name != docs else str(Path(docs).absolute()), docs)
        else:
            sources = _sources(name, field, pattern)
            store = _opened(out, base, modality, tokens, sources[0], device)
            summary = _updated(*store, name, sources)
        if as_json:
            echo(json.dumps(summary))
    if export is not None:
        _export(Store.open(out), export)


def loaded(store: Store, folder: Path | None, device: str) -> Base:
    """Load the base of an index, or check that another folder has the same; ConfigError if not."""
    name = store.facts[BASE]
    path = folder or Path(name)
    if folder is None and not (sample_name(path) or path.exists()):
        raise DataError(f"{store.path} was made with the base {name}, which is gone; give --base")
    MachineConfig(device=device).prepare()
    base = load(path, str(find_device(device)))
    must_be_of(store, base)
    return base


def _sources(docs: str, field: str, pattern: str | None) -> Sequence[SourceConfig]:
    """Return the sources of the documents; DataError where there is nothing to read."""
    if pattern is not None:
        source = TextFilesConfig(path=docs, pattern=pattern)
        source.files()
        return [source]
    if docs.startswith(STORE):
        return detect(docs, TextFilesConfig(path=docs))
    return [unlabelled(docs, field, {})]


def _opened(
    out: Path,
    folder: Path | None,
    modality: str | None,
    tokens: int | None,
    source: SourceConfig,
    device: str,
) -> tuple[Store, Base]:
    """Return the index to write to and its base; a new one where there is none."""
    if out.exists() and out.stat().st_size:
        store = Store.open(out, write=True)
        for option, value, fact in (
            ("--modality", modality, MODALITY),
            ("--tokens", tokens, TOKENS),
        ):
            if value is not None and str(value) != store.facts[fact]:
                raise ConfigError(
                    f"{out} has {option} {store.facts[fact]}; leave it out, or give another --out"
                )
        return store, loaded(store, folder, device)
    if folder is None:
        raise ConfigError(f"{out} does not exist; name the base of the new index with --base")
    MachineConfig(device=device).prepare()
    base = load(folder, str(find_device(device)))
    modality = base.codec(modality or kind_of(base, source))[0]
    name = str(folder if sample_name(folder) else folder.expanduser().absolute())
    return Store.create(out, facts_of(base, name, modality, tokens)), base


def _updated(
    store: Store, base: Base, name: str, sources: Sequence[SourceConfig]
) -> dict[str, int]:
    """Bring the documents of a source up to date, and say what that was."""
    facts = store.facts
    modality, limit = facts[MODALITY], int(facts[TOKENS])
    clean, codec = reader(base, modality), base.codec(modality)[1]
    kind = base.config.modalities[modality]
    reading = Reading(
        clean,
        lambda raws: unit_vectors(base, modality, raws),
        lambda text: len(codec.encode_content(kind.clean(text)).values),
        limit,
        content,
    )
    vectors.discard(store.path)
    result = update(store, name, _all(sources), reading, _counter())
    vectors.matrix(store)
    _say(store, result)
    documents, passages = store.counts()
    if not documents and not result.removed:
        store.close()
        vectors.discard(store.path)
        store.path.unlink()
        raise DataError(
            f"no document of {name} can be read as {modality}"
            f" (first: {result.first or 'there is none'}); give documents of that modality"
        )
    return {**result.summary(), "documents": documents, "passages": passages}


def _removed(out: Path, *names: str) -> dict[str, int]:
    """Remove documents by a name of them; DataError where there are none."""
    store = Store.open(out, write=True)
    origins = list(dict.fromkeys(o for name in names for o in matching(store, name)))
    if not origins:
        raise DataError(f"{out} has no document {names[-1]}; `search --json` prints their origins")
    vectors.discard(out)
    removed = store.remove(origins)
    store.tidy()
    vectors.matrix(store)
    documents, passages = store.counts()
    log.say(f"{removed:,} documents removed; {documents:,} with {passages:,} passages stay")
    return {"removed": removed, "documents": documents, "passages": passages}


def _all(sources: Sequence[SourceConfig]) -> Iterator[Record | Reject]:
    for source in sources:
        yield from source.records()


def _counter() -> Callable[[int], None]:
    """Return what says now and then how many documents were read."""
    began = said = time.monotonic()
    total = 0

    def done(count: int) -> None:
        nonlocal total, said
        total += count
        if (now := time.monotonic()) - said > EVERY:
            said = now
            log.say(f"{total:,} documents, {total / (now - began):,.0f} a second")

    return done


def _say(store: Store, result: Update) -> None:
    documents, passages = store.counts()
    counts = ", ".join(f"{count:,} {name}" for name, count in result.summary().items() if count)
    log.say(
        f"{counts or 'nothing'}; {store.path} has {documents:,} documents, {passages:,} passages"
    )
    if result.unreadable:
        log.say(f"the first that cannot be read: {result.first}")


def _export(store: Store, path: Path) -> None:
    """Write a row for each passage: origin, span, text and vector."""
    numbers, rows = store.vectors()
    schema = pa.schema(
        [
            ("origin", pa.string()),
            ("start", pa.int64()),
            ("stop", pa.int64()),
            ("text", pa.string()),
            ("vector", pa.list_(pa.float32(), rows.shape[1])),
        ]
    )
    with draft_file(path) as draft, pq.ParquetWriter(draft, schema) as writer:
        for i in range(0, len(numbers), ROWS):
            spans = store.spans(numbers[i : i + ROWS])
            columns: list[Any] = [list(column) for column in zip(*spans, strict=True)]
            flat = pa.array(rows[i : i + ROWS].astype("float32").ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, rows.shape[1]))
            writer.write_table(
                pa.Table.from_arrays(list(map(pa.array, columns[:4])) + columns[4:], schema=schema)
            )
    log.say(f"{len(numbers):,} passages with their vectors in {path}")
