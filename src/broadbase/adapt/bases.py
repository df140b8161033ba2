"""Where a base to adapt is: in a model folder, or behind an endpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path

from broadbase.adapt.endpoint import Endpoint
from broadbase.adapt.openai_client import endpoint_address
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.weights import folder as model_folders
from broadbase.weights.samples import sample_name


def open_base(where: Path | str, device: str = "cpu") -> Base:
    """Return the base of a run, a model folder, `sample:NAME`, or an endpoint `URL#MODEL`."""
    if (address := endpoint_address(where)) is not None:
        return Endpoint.open(address)
    return model_folders.load(where, device)


def located(where: Path) -> str:
    """Return where a base is, so that it is read from anywhere."""
    return endpoint_address(where) or str(where if sample_name(where) else where.absolute())


def base_hash(where: Path) -> str:
    """Return the SHA-256 over the names and contents of a model folder's config and weights.

    Of an endpoint it is empty: its weights may change, and nobody here sees it.
    """
    if endpoint_address(where) is not None:
        return ""
    total = hashlib.sha256()
    for path in sorted(model_folders.model_folder(where).glob("*")):
        if path.suffix in (".safetensors", ".json", ".gguf", ".bin") and path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            total.update(f"{path.name} {digest.hexdigest()}\n".encode())
    return total.hexdigest()


def must_be_copied(where: Path) -> None:
    """Check that a base can be copied; ConfigError otherwise."""
    if (address := endpoint_address(where)) is not None:
        raise ConfigError(f"{address} is an endpoint and cannot be copied; leave out --copy-base")
