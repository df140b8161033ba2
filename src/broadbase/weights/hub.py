"""Models by folder, by the name of a sample base, or by name on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.extras import require_extra
from broadbase.weights.samples import sample_base, sample_name
from broadbase.weights.tensors import CONVERT, PICKLES

NAME = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickle, no code
SPARE = ("*/*", "consolidated*")  # other forms of the same weights
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
REMEDIES = {  # by the client's error, the narrower first
    "GatedRepoError": f"it is gated: accept its terms on its page there, then {LOG_IN}",
    "RepositoryNotFoundError": f"mend the name; if it is private, {LOG_IN}",
    "LocalEntryNotFoundError": "fetch it where there is a network (`hf download`), as it is"
    " not in the cache, and give its folder",
    "EntryNotFoundError": "its owner has to mend it",
}


def folder_of(model: str) -> Path:
    """Return the folder `model`, or download the model of that name; the network is needed once.

    The name is "sample:NAME", or OWNER/NAME on the hub. HF_ENDPOINT is the address of the hub.
    DataError names what is missing and what to do.
    """
    if name := sample_name(model):
        return sample_base(name).folder()
    if Path(model).is_dir():
        return Path(model)
    if not NAME.fullmatch(model):
        raise ConfigError(
            f"{model!r} is no folder, and no name on the hub; give a folder, OWNER/NAME or"
            " sample:NAME"
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # send nothing about this machine
    hub = require_extra("huggingface_hub", "transformers", "a model from the hub")
    try:
        folder = Path(
            hub.snapshot_download(model, allow_patterns=[*WANTED], ignore_patterns=[*SPARE])
        )
        lacks = [n for n in ("config.json", "*.safetensors") if not any(folder.glob(n))]
        names = hub.list_repo_files(model) if lacks else []
    except Exception as error:  # errors of the HTTP library too
        kinds = [kind.__name__ for kind in type(error).__mro__]
        remedy = next(
            (REMEDIES[k] for k in REMEDIES if k in kinds), "try again, or fetch it by hand"
        )
        reason = " ".join(str(error).split())
        raise DataError(
            f"{model} is no folder here, and the hub did not provide it; {remedy} ({reason})"
        ) from None
    if lacks:
        pickles = [name for name in names if name.endswith(PICKLES)]
        how = f"; {', '.join(pickles)} can run code: convert, with {CONVERT}" if pickles else ""
        raise DataError(
            f"{model} on the hub has no {' and no '.join(lacks)}{how or '; name another'}"
        )
    return folder
