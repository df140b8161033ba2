"""Long texts in chunks, and texts that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator

STEP = 1 << 18  # characters that a chunk has at least
BLANK = re.compile(r"(?<=\S)[ \n]")
SURROGATE = re.compile("[\ud800-\udfff]")


def chunks(text: str) -> Iterator[str]:
    """A text in chunks of at most 2 * STEP characters, cut before a blank where there is one.

    No word of letters, digits or other signs goes on across such a blank. A chunk of a chunk is
    the same chunk.
    """
    first = 0
    while len(text) - first > 2 * STEP:
        found = BLANK.search(text, first + STEP, first + 2 * STEP)
        last = found.start() if found else first + 2 * STEP
        yield text[first:last]
        first = last
    yield text[first:] if first else text


def refuse_surrogates(text: str) -> None:
    """ValueError where a text holds half a character, which no encoding can write."""
    if found := SURROGATE.search(text):
        raise ValueError(
            f"half a character (the lone surrogate U+{ord(found.group()):04X}) at character"
            f" {found.start() + 1}; remove it, or put U+FFFD in its place"
        )
