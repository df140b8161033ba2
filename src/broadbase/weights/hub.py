"""Where a model is: a folder, or a name on the hub, which is fetched because it was named."""

from __future__ import annotations

import os
import re
from pathlib import Path

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.extras import require_extra
from broadbase.weights.tensors import CONVERT, PICKLES

NAME = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickle, no code
SPARE = ("*/*", "consolidated*")  # other forms of the same weights
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
REMEDIES = {  # by the client's error, the narrower first
    "GatedRepoError": f"it is gated: accept its terms on its page there, then {LOG_IN}",
    "RepositoryNotFoundError": f"mend the name; if it is private, {LOG_IN}",
    "LocalEntryNotFoundError": "it was not fetched before either: fetch it where there is a network"
    " (`hf download`), and name its folder",
    "EntryNotFoundError": "its owner has to mend it",
}


def folder_of(place: str) -> Path:
    """The folder at `place`, or of that name on the hub; the latter needs the network, once.

    The hub is where HF_ENDPOINT says. DataError names what is missing and what to do.
    """
    if Path(place).is_dir():
        return Path(place)
    if not NAME.fullmatch(place):
        raise ConfigError(f"{place!r} is no folder, and no name on the hub (OWNER/NAME)")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing of this machine is told
    hub = require_extra("huggingface_hub", "transformers", "a model from the hub")
    try:
        folder = Path(
            hub.snapshot_download(place, allow_patterns=[*WANTED], ignore_patterns=[*SPARE])
        )
        lacks = [n for n in ("config.json", "*.safetensors") if not any(folder.glob(n))]
        names = hub.list_repo_files(place) if lacks else []
    except Exception as error:  # of whatever the client speaks HTTP with, too
        kinds = [kind.__name__ for kind in type(error).__mro__]
        remedy = next(
            (REMEDIES[k] for k in REMEDIES if k in kinds), "try again, or fetch it by hand"
        )
        said = " ".join(str(error).split())
        raise DataError(
            f"{place} is no folder here, and the hub does not give it; {remedy} ({said})"
        ) from None
    if lacks:
        pickles = [name for name in names if name.endswith(PICKLES)]
        how = f"; {', '.join(pickles)} can run code: convert, with {CONVERT}" if pickles else ""
        raise DataError(
            f"{place} on the hub has no {' and no '.join(lacks)}{how or '; name another'}"
        )
    return folder
