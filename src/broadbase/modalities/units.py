"""Words and sentences of ids, by how the text of each id begins and ends.

Legend: N tokens, V ids.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from broadbase.core.contracts import Boundaries

BLANK, LETTER, DIGIT, OTHER = range(4)
KINDS = {"L": LETTER, "M": LETTER, "N": DIGIT, "P": OTHER, "S": OTHER}  # by Unicode category
STOPS, CLOSING = ".!?", "\"')]}\u2019\u201d"


@dataclass(frozen=True)
class Words:
    """Words: runs of letters, digits or other signs, each with one space before it."""

    first: Tensor  # [V+1] kind of the first character; the last entry is that of all other ids
    last: Tensor  # [V+1] kind of the last character
    space: Tensor  # [V+1] bool: a space and nothing else

    def __call__(self, values: Tensor) -> Tensor:
        """Return whether each id [N] begins a word: [N] bool."""
        values = values.clamp(max=len(self.first) - 1)
        first, last = self.first[values], self.last[values]
        begins = torch.ones_like(values, dtype=torch.bool)
        joins = (first[1:] == last[:-1]) | self.space[values[:-1]]
        begins[1:] = (first[1:] == BLANK) | ~joins
        return begins


@dataclass(frozen=True)
class Sentences:
    """Sentences: each begins with a blank after a full stop, with or without closing signs."""

    blank: Tensor  # [V+1] bool: begins with a blank
    stop: Tensor  # [V+1] bool: ends in a full stop, and closing signs after it
    closing: Tensor  # [V+1] bool: closing signs alone

    def __call__(self, values: Tensor) -> Tensor:
        """Return whether each id [N] begins a sentence: [N] bool."""
        values = values.clamp(max=len(self.blank) - 1)
        begins, stop = torch.ones_like(values, dtype=torch.bool), self.stop[values]
        for before in self.closing[values[1:]].nonzero().flatten():
            stop[before + 1] |= stop[before]
        begins[1:] = self.blank[values[1:]] & stop[:-1]
        return begins


def units(texts: Sequence[bytes]) -> Mapping[str, Boundaries]:
    """Return the words and sentences of ids, given the UTF-8 bytes of each; b"" for no text.

    Bytes that are only a part of a character count as a letter's.
    """
    decoded = [*(text.decode(errors="replace").replace("\ufffd", "a") for text in texts), ""]
    return {
        "word": Words(
            _kinds(t[:1] for t in decoded),
            _kinds(t[-1:] for t in decoded),
            torch.tensor([t == " " for t in decoded]),
        ),
        "sentence": Sentences(
            torch.tensor([t[:1].isspace() for t in decoded]),
            torch.tensor([t.rstrip(CLOSING)[-1:] in {*STOPS} for t in decoded]),
            torch.tensor([bool(t) and not t.strip(CLOSING) for t in decoded]),
        ),
    }


def _kinds(characters: Iterable[str]) -> Tensor:
    return torch.tensor(
        [KINDS.get(unicodedata.category(c)[0], BLANK) if c else BLANK for c in characters]
    )
