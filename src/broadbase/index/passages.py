"""Passages: texts cut at the ends of sentences and lines, each short enough for a base to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+(?=\s|$)[^\S\n]*|[.!?]|\n+|$)")
Size = Callable[[str], int]  # how many tokens a text has


class Passage(NamedTuple):
    """A part of a document: its first character, that after its last, and its text."""

    start: int | None
    stop: int | None
    text: str


UNCUT = Passage(None, None, "")  # a document that is no text


def cut(text: str, size: Size, limit: int) -> Iterator[Passage]:
    """Yield the passages of a text, of at most `limit` tokens as far as a word allows.

    They follow each other and do not overlap. A sentence of more tokens is cut between words, a
    word of more tokens anywhere. Spaces at both ends are left out, and so is a passage of nothing
    else.
    """
    start, total = 0, 0
    for first, last, tokens in _pieces(text, size, limit):
        if total and total + tokens > limit:
            yield from _trimmed(text, start, first)
            start, total = first, 0
        total += tokens
        end = last
    if total:
        yield from _trimmed(text, start, end)


def _pieces(text: str, size: Size, limit: int) -> Iterator[tuple[int, int, int]]:
    """Yield the sentences of a text, or parts of long ones: start, stop and number of tokens."""
    ends = [0, *(match.end() for match in SENTENCE.finditer(text) if match.group())]
    for first, last in pairwise(ends):
        yield from _parts(text, first, last, size, limit)


def _parts(
    text: str, first: int, last: int, size: Size, limit: int
) -> Iterator[tuple[int, int, int]]:
    """Yield a piece, cut in halves until each has at most `limit` tokens."""
    tokens = size(text[first:last])
    if tokens <= limit or last - first < 2:
        yield first, last, tokens
        return
    middle = (first + last) // 2
    blank = text.rfind(" ", first + 1, middle + 1)
    middle = blank if blank > first else middle
    yield from _parts(text, first, middle, size, limit)
    yield from _parts(text, middle, last, size, limit)


def _trimmed(text: str, start: int, stop: int) -> Iterator[Passage]:
    """Yield a passage without the spaces at its ends, unless it is nothing but spaces."""
    part = text[start:stop]
    if stripped := part.strip():
        start += len(part) - len(part.lstrip())
        yield Passage(start, start + len(stripped), stripped)
