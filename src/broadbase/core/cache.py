"""Where things are kept that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """The folder $BROADBASE_CACHE, or broadbase in the user's cache; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("BROADBASE_CACHE") or f"{home}/broadbase").expanduser().absolute()
