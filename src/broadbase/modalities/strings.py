"""Chunks of long texts, and the check that a text is Unicode."""

from __future__ import annotations

import re
from collections.abc import Iterator

STEP = 1 << 18  # characters that a chunk has at least
BLANK = re.compile(r"(?<=\S)[ \n]")
SURROGATE = re.compile("[\ud800-\udfff]")


def chunks(text: str) -> Iterator[str]:
    """Yield a text in chunks of at most 2 * STEP characters, cut before a blank if there is one.

    No word of letters, digits or other signs continues across such a blank. A chunk of a chunk is
    the same chunk.
    """
    first = 0
    while len(text) - first > 2 * STEP:
        blank = BLANK.search(text, first + STEP, first + 2 * STEP)
        last = blank.start() if blank else first + 2 * STEP
        yield text[first:last]
        first = last
    yield text[first:] if first else text


def refuse_surrogates(text: str) -> None:
    """Raise ValueError if a text holds half of a surrogate pair, which no encoding can write."""
    if half := SURROGATE.search(text):
        raise ValueError(
            f"half a character (the lone surrogate U+{ord(half.group()):04X}) at character"
            f" {half.start() + 1}; remove it, or replace it by U+FFFD"
        )
