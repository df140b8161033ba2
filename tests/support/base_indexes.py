"""Indexes of texts with the vectors of a base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from broadbase.adapt.inputs import content
from broadbase.core.sources import Record
from broadbase.index.reading import facts_of, unit_vectors
from broadbase.index.store import Store
from broadbase.index.writing import Reading, update
from broadbase.inference.base import Base


def indexed(path: Path, base: Base, texts: Mapping[str, str], modality: str = "text") -> Path:
    """The file of an index of some texts by their origins, a new one or one that grows."""
    store = (
        Store.open(path, write=True)
        if path.exists()
        else Store.create(path, facts_of(base, "base", modality))
    )
    reading = Reading(
        lambda raw: raw, lambda raws: unit_vectors(base, modality, raws), len, 500, content
    )
    records = [Record(text, origin) for origin, text in texts.items()]
    update(store, " ".join(texts), records, reading)
    store.close()
    return path
