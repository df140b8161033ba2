"""A source prepared as a store."""

from __future__ import annotations

from pathlib import Path

from broadbase.core.sources import SourceConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.store import Store
from broadbase.modalities.bytes import BytesConfig


def stored(source: SourceConfig, folder: Path, **settings: float) -> Store:
    """A source of bytes as the store `folder`."""
    wanted = {folder.name: StoreRequest(source, BytesConfig(), "bytes")}
    return prepare(wanted, folder.parent, PrepareConfig(**settings))[0][folder.name]
