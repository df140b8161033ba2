"""What the options of a command change of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Changes(TypedDict, total=False):
    """The keyword arguments of `resolve.resolve`, which says what each does."""

    changes: Sequence[str]
    field: str | None
    pattern: str | None
    init_from: str | None
    family: str | None
    steps: int | None
    context: int | None
    batch_size: int | None
