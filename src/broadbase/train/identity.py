"""What a resumed run must find unchanged, what it may change, and what does not matter to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from broadbase.core.errors import ConfigError

Change = tuple[Any, Any]  # before, after

# Paths and names of things: hashes identify what they are
ANYWHERE = re.compile(
    r"config\.(recipe|depth|init_from|teacher\.path|data\.sources\.[^.]+\.source(\..+)?)"
)
# What acts on the coming steps alone
FREE = re.compile(
    r"config\.(train\.(steps|grad_clip)|optim\.(lr|muon_lr|weight_decay)|schedule(\..+)?)"
)

UNDO = "undo the change, or start a new run, with --init-from to go on from its weights"
REMOVED = (
    "the prepared data changed, as by `remove` or by preparing again; a run reads the same data to"
    " its end, so start a new one, with --init-from to go on from its weights"
)


def changed(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> dict[str, Change]:
    """Return what a resumed run changes from now on; ConfigError names what it must not change.

    `old` and `new` are the identities of the run `name`, before and now.
    """
    changes = difference(old, new)
    refused = [path for path in changes if not (ANYWHERE.fullmatch(path) or FREE.fullmatch(path))]
    if refused:
        lines = ["{}: {!r} became {!r}".format(path, *changes[path]) for path in refused]
        raise ConfigError(
            "\n  ".join([f"{name} has other settings or data:", *lines])
            + f"\n{REMOVED if all(path.startswith('data.') for path in refused) else UNDO}"
        )
    return {
        path.removeprefix("config."): change
        for path, change in changes.items()
        if FREE.fullmatch(path)
    }


def difference(old: Any, new: Any, path: str = "") -> dict[str, Change]:
    """Return what differs between two trees, by the path of each leaf: before and after."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changes: dict[str, Change] = {}
        for key in sorted({*old, *new}):
            changes |= difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return changes
    return {} if old == new else {path: (old, new)}
