"""The format of runs and model folders: old ones are refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broadbase.core.errors import DataError

FORMAT = 2  # of config.yaml in a run, and of `broadbase` in the config.json of a model folder


def check_format(tree: Mapping[str, Any], folder: Path) -> None:
    """Check the `format` of a run or a model folder; DataError if another version wrote it.

    Format 1 had no such field in a run.
    """
    written = tree.get("format", 1)
    if written == FORMAT:
        return
    if isinstance(written, int) and written > FORMAT:
        raise DataError(
            f"{folder} was written by a newer version of Broadbase (format {written}); this one"
            f" reads format {FORMAT}: upgrade Broadbase"
        )
    raise DataError(
        f"{folder} was written by an older version of Broadbase (format {written}); train it again"
        " with `broadbase pretrain`"
    )
