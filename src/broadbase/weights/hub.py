"""Where a model is: a folder, or a name on the hub, which is fetched because it was named."""

from __future__ import annotations

import re
from pathlib import Path

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.optional import optional

NAME = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickle, no code


def folder_of(place: str) -> Path:
    """The folder at `place`, or of that name on the hub; the latter needs the network."""
    if Path(place).is_dir():
        return Path(place)
    if not NAME.fullmatch(place):
        raise ConfigError(f"{place!r} is no folder, and no name on the hub (OWNER/NAME)")
    hub = optional("huggingface_hub", "transformers", "a model from the hub")
    try:
        return Path(hub.snapshot_download(place, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{place} is no folder here, and the hub does not give it: {error}; fetch it where"
            " there is a network, and name its folder"
        ) from None
