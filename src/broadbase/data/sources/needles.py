"""Needles: records that hide something small in something long, and ask for it at their end.

What tests a base is kept away from what trains it: a quarter of the words, and of the pictures, is
in no record (`reserved`), and is what `evaluate/needle.py` plants.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from broadbase.core.errors import DataError
from broadbase.core.sources import Record, Reject, SourceConfig
from broadbase.data.identity import digest_of

WORD = re.compile("[a-z]{4,9}")
VOCABULARY = 2000  # the commonest words of a source are what its needles are made of


class NeedlesConfig(SourceConfig):
    """Passages of `source` with needles, lines "- key value", and at the end questions for them.

    Keys are common words of the source, different ones in a passage, values are digits. A passage
    has between 1 and `most` needles, at random between its words; it asks for all of
    them, in random order. Passages of one text have it as their group.
    """

    name: Literal["needles"] = "needles"
    source: SourceConfig
    """The source of the texts."""
    characters: Annotated[int, Field(ge=100)] = 180
    """The most characters of a record."""
    most: Annotated[int, Field(ge=1)] = 3
    """The most needles of a record."""
    seed: int = 0
    """The seed of what is drawn."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.source.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        rng = np.random.default_rng(self.seed)
        words = self.words(False)
        for text in self.source.records():
            if isinstance(text, Reject):
                yield text
                continue
            left, number = text.raw.split(), 0
            while left:
                count = int(rng.integers(1, self.most + 1))
                pairs = drawn(words, count, rng)
                room = rng.uniform(0.3, 1) * self.characters
                room -= 2 * sum(len(needle(*pair)) + 1 for pair in pairs)
                passage, left = cut(left, max(int(room), 40))
                lines = insert_needle(passage, pairs, rng.uniform(size=count).tolist())
                raw = "\n".join([*lines, *(needle(*pairs[i]) for i in rng.permutation(count))])
                yield Record(raw, f"{text.origin}:{number}", group=text.key or text.origin)
                number += 1

    def words(self, apart: bool) -> list[str]:
        """Return the words that needles are made of: those for testing, or all others."""
        return [word for word in self._common if reserved(word) is apart]

    @cached_property
    def _common(self) -> list[str]:
        counts = Counter[str]()
        for text in self.source.records():
            if isinstance(text, Record):
                counts.update(word for word in text.raw.split() if WORD.fullmatch(word))
        return sorted(word for word, _ in counts.most_common(VOCABULARY))

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        return self.source.fingerprint()


class AlbumsConfig(SourceConfig):
    """Pictures of `source` in a row, drawn at random; then stretches of it again, each of two to
    eight, so that all but the first of a stretch follows from what came before.

    A record is an array [n,...] of up to `pictures`, half of it such stretches. DataError where
    the pictures are not of one size.
    """

    name: Literal["albums"] = "albums"
    source: SourceConfig
    """The source of the pictures."""
    pictures: Annotated[int, Field(ge=8)] = 32
    """The most pictures of a record."""
    count: Annotated[int, Field(ge=2)] = 8000
    """The number of records."""
    seed: int = 0
    """The seed of what is drawn."""

    @property
    def licence(self) -> str:
        """Return the terms under which the data may be used."""
        return self.source.licence

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        pictures = self.shown(False)
        for i in range(self.count):
            rng = np.random.default_rng([self.seed, i])
            size = int(rng.integers(self.pictures // 4, self.pictures + 1))
            row = rng.choice(len(pictures), size - size // 2, replace=len(pictures) < size)
            again = [row[a:b] for a, b in _stretches(len(row), size // 2, rng)]
            yield Record(pictures[np.concatenate([row, *again])], f"albums:{self.seed}:{i}")

    def shown(self, apart: bool) -> np.ndarray[Any, Any]:
        """Return the pictures that albums are made of: those for testing, or all others."""
        records = (r for r in self.source.records() if isinstance(r, Record))
        pictures = [np.asarray(r.raw) for r in records if reserved(r.key or r.origin) is apart]
        if not pictures:
            raise DataError("too few pictures for albums: a quarter is kept for testing; give more")
        if len(sizes := {picture.shape for picture in pictures}) != 1:
            raise DataError(f"albums are of pictures of one size, these are of {sorted(sizes)}")
        return np.stack(pictures)

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        return self.source.fingerprint()


def reserved(name: str) -> bool:
    """Return whether a word or a picture of this name is kept for testing: a quarter of all is."""
    return digest_of(name)[0] % 4 == 0


def needle(key: str, value: str) -> str:
    """Return a needle, which stands on a line of its own."""
    return f"{question(key)} {value}"


def question(key: str) -> str:
    """Return a needle up to its value."""
    return f"- {key}"


def drawn(words: Sequence[str], count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return so many pairs of a key, all different, and a digit.

    Raise DataError of too few words.
    """
    if len(words) < count:
        raise DataError(
            f"{count} needles need as many different words, and the texts have {len(words)}"
            " of 4 to 9 lower-case Latin letters for them; give more text"
        )
    keys = rng.choice(len(words), count, replace=False)
    return [(words[k], str(v)) for k, v in zip(keys, rng.integers(0, 10, count), strict=True)]


def cut(words: Sequence[str], characters: int) -> tuple[list[str], list[str]]:
    """Return the first words, of about so many characters, and the others."""
    ends = np.cumsum([len(word) + 1 for word in words])
    count = max(1, int(np.searchsorted(ends, characters)))
    return list(words[:count]), list(words[count:])


def insert_needle(
    passage: Sequence[str], pairs: Sequence[tuple[str, str]], depths: Sequence[float]
) -> list[str]:
    """Return the lines of a passage with a needle of each pair at its depth.

    Depth 0 is before all words, 1 after them.
    """
    indices = np.round(np.asarray(depths) * len(passage)).astype(int)
    lines, before = list[str](), 0
    for i in np.argsort(indices, kind="stable"):
        lines += [" ".join(passage[before : indices[i]]), needle(*pairs[i])]
        before = int(indices[i])
    return [line for line in (*lines, " ".join(passage[before:])) if line]


def _stretches(length: int, total: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield where stretches of a row of `length` begin and end, `total` pictures together."""
    while total > 0:
        size = min(int(rng.integers(2, 9)), total, length)
        first = int(rng.integers(length - size + 1))
        yield first, first + size
        total -= size
