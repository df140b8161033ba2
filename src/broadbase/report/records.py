"""Records as a table shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from broadbase.core.sources import parts

SHOWN = 60  # characters of a record


def written_record(raw: Any) -> str:
    """Return a text in full, and what another record is; items of a pair have | between them."""
    each = (
        part if isinstance(part, str) else f"array {np.asarray(part).shape}" for part in parts(raw)
    )
    return " | ".join(each)


def brief_record(raw: Any) -> str:
    """Return the beginning of that."""
    text = written_record(raw)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
