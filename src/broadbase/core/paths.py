"""Where things are kept that can be made or fetched again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder $BROADBASE_CACHE, or broadbase in the user's cache; it need not exist.

    Where the user has no home, it is in the folder of temporary files.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    wanted = Path(os.environ.get("BROADBASE_CACHE") or f"{home}/broadbase")
    try:
        return wanted.expanduser().absolute()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"broadbase-{os.getuid()}"
