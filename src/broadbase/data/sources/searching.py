"""Patterns of the user's, searched for in headers and paths: checked first, and never for long."""

from __future__ import annotations

from typing import Annotated

import regex
from pydantic import AfterValidator

from broadbase.core.errors import ConfigError

SECONDS = 1.0  # for one search; an ordinary one takes microseconds


def _checked(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_checked)]


def searched(pattern: str, text: str) -> regex.Match[str] | None:
    """Return the first match of a pattern.

    Raise ConfigError where the search would take very long.
    """
    try:
        return regex.search(pattern, text, timeout=SECONDS)
    except TimeoutError:
        raise ConfigError(
            f"searching {pattern!r} in {text[:60]!r} takes over {SECONDS:g} s; repeats within"
            " repeats, such as (a+)+, make it slow: write it otherwise"
        ) from None
